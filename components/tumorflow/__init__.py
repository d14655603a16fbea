"""Tumour classification in CT: the steps that run inside tumorflow's containers."""

__version__ = "0.1.0"
