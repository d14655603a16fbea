"""Writes the embedded sample cohort: synthetic thorax CT as true DICOM series."""
