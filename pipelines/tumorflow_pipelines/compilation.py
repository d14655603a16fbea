"""Writes what engines read: the Kubeflow pipeline's YAML and dvc.yaml, both from the chain."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tumorflow.chain import STEPS, Step
from tumorflow.cluster import ClusterParams
from tumorflow.files import write_text
from tumorflow.lineage import PACKAGE, code_files

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

HEADER = "# Written by `make render` from the chain; do not edit. For research, not for clinical decisions.\n"
BUILD = "build"


PIPELINES = ("train", "retrain")


def build_pipeline(name: str, cluster: ClusterParams, parts: int) -> "BaseComponent":
    """Returns the pipeline called `name`."""
    from tumorflow_pipelines.retrain_pipeline import build_retrain_pipeline
    from tumorflow_pipelines.train_pipeline import build_train_pipeline

    build = {"train": build_train_pipeline, "retrain": build_retrain_pipeline}[name]
    return build(cluster, parts)


def compile_pipeline(
    path: Path, cluster: ClusterParams | None = None, parts: int = 1, *, name: str = "train"
) -> None:
    """Writes a pipeline's definition to `path`, atomically.

    Args:
        path: of the YAML file.
        cluster: where and how the steps run; None: as the defaults say.
        parts: how many parts preprocessing is done in, side by side.
        name: one of PIPELINES.
    """
    from kfp import compiler

    pipeline = build_pipeline(name, cluster or ClusterParams(), parts)
    with tempfile.TemporaryDirectory(prefix="tumorflow-compile-") as folder:
        draft = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(draft))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, draft.read_text())


def render_dvc() -> str:
    """Returns dvc.yaml: one stage a step, its parameters, and the metrics and plots of the evaluation."""
    evaluation = f"{BUILD}/evaluation"
    document = {
        "stages": {step.name: _stage(step) for step in STEPS},
        "metrics": [f"{evaluation}/headline.json"],
        "plots": [
            {"Loss by epoch": {"x": "epoch", "y": {f"{BUILD}/model/history.csv": ["loss", "val_loss"]}}},
            {
                "Validation macro-F1 by epoch": {
                    "x": "epoch",
                    "y": {f"{BUILD}/model/history.csv": "val_macro_f1"},
                }
            },
            {
                "ROC, one class against the rest": {
                    "template": ".dvc/plots/roc.json",
                    "x": "fpr",
                    "y": {f"{evaluation}/plots/roc.csv": "tpr"},
                }
            },
            {
                "Confusion": {
                    "template": "confusion",
                    "x": "actual",
                    "y": {f"{evaluation}/plots/confusion.csv": "predicted"},
                }
            },
            {
                "Reliability": {
                    "template": "scatter",
                    "x": "confidence",
                    "y": {f"{evaluation}/plots/reliability.csv": "accuracy"},
                }
            },
        ],
    }
    return HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _code(step: Step) -> list[str]:
    """Returns the paths of a step's code: its room as a folder, and each shared module."""
    shared = [path.relative_to(PACKAGE) for path in code_files(step)]
    outside = [path for path in shared if path.parts[0] != step.room]
    return [f"components/tumorflow/{path.as_posix()}" for path in [Path(step.room), *outside]]


def _stage(step: Step) -> dict[str, Any]:
    settings = {"source": "data", "alias": "candidate"}
    options = [f"--{name} {settings[name]}" for name in step.arguments if name in settings]
    options += [f"--{name} {BUILD}/{name}" for name in (*step.inputs, step.output)]
    data = ["data"] if "source" in step.arguments else []
    return {
        "cmd": " ".join([f"tumorflow {step.name}", *options]),
        "deps": [*data, *(f"{BUILD}/{name}" for name in step.inputs), *_code(step)],
        "params": ["classes", "seed", step.name],
        "outs": [f"{BUILD}/{step.output}"],
    }
