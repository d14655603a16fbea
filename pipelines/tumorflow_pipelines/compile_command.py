"""`tumorflow compile`."""

import argparse
from pathlib import Path

from tumorflow.files import write_text
from tumorflow_pipelines.compilation import compile_pipeline, render_dvc

SUMMARY = "write the Kubeflow pipeline's YAML, and dvc.yaml"
EXAMPLE = "tumorflow compile --output pipelines/train.yaml --dvc dvc.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--output", default="pipelines/train.yaml", metavar="FILE", help="pipeline definition to write"
    )
    parser.add_argument("--dvc", default="", metavar="FILE", help="also write the same chain as DVC stages")


def run(given: argparse.Namespace) -> int:
    """Returns 0 after writing the files."""
    compile_pipeline(Path(given.output))
    print(f"wrote {given.output}")
    if given.dvc:
        write_text(Path(given.dvc), render_dvc())
        print(f"wrote {given.dvc}")
    return 0
