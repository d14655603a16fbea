"""`tumorflow compile`."""

import argparse
from pathlib import Path

from tumorflow.cli import add_parameter_options, parameters_of
from tumorflow.files import write_text
from tumorflow_pipelines.compilation import PIPELINES, compile_pipeline, render_dvc

SUMMARY = "write a Kubeflow pipeline's YAML, and dvc.yaml"
EXAMPLE = "tumorflow compile --pipeline train --output pipelines/train.yaml --dvc dvc.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--pipeline", choices=PIPELINES, default="train", help="which one (default: train)")
    parser.add_argument("--output", metavar="FILE", help="definition to write (default: pipelines/NAME.yaml)")
    parser.add_argument("--dvc", default="", metavar="FILE", help="also write the same chain as DVC stages")
    add_parameter_options(parser)


def run(given: argparse.Namespace) -> int:
    """Returns 0 after writing the files."""
    params = parameters_of(given)
    output = Path(given.output or f"pipelines/{given.pipeline}.yaml")
    compile_pipeline(output, params.cluster, params.preprocess.parallel_parts, name=given.pipeline)
    print(f"wrote {output}")
    if given.dvc:
        write_text(Path(given.dvc), render_dvc())
        print(f"wrote {given.dvc}")
    return 0
