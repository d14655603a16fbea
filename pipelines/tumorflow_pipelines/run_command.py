"""`tumorflow run`: the compiled pipeline, from a source to a gated and registered model."""

import argparse
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tumorflow.chain import STEPS
from tumorflow.cli import NOTICE, add_parameter_options, parameters_of
from tumorflow.errors import TumorflowError
from tumorflow.files import write_json
from tumorflow.lineage import hash_code
from tumorflow.params import Parameters

SUMMARY = "run the whole pipeline on a source, unchanged steps from the cache"
EXAMPLE = "tumorflow run --source ~/iqoth_nccd --preset iqoth_nccd --set train.epochs=20"
ACCEPTED, REJECTED = 0, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--source",
        default="data",
        metavar="DIR",
        help="DICOM files, or one folder of images a class (default: data)",
    )
    parser.add_argument(
        "--runs", default="runs", metavar="DIR", help="where results are kept (default: runs)"
    )
    parser.add_argument(
        "--pipeline", metavar="FILE", help="a compiled definition to run instead of this version's own"
    )
    add_parameter_options(parser)


def run(given: argparse.Namespace) -> int:
    """Returns 0 for an accepted model, 3 for a rejected one, 1 or 2 for a run that failed."""
    from tumorflow_pipelines.data_version import committed_hash, hash_source
    from tumorflow_pipelines.local_run import exclusive

    params = parameters_of(given)
    source = Path(given.source).expanduser()
    runs = Path(given.runs).absolute()
    with exclusive(runs):
        data_hash = hash_source(source)
        promised = committed_hash(Path(f"{source}.dvc"))
        verified = promised == data_hash if promised else None
        print(f"data: {source}, version {data_hash}{_tell_verified(verified, source)}")
        folder = runs / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%fZ")
        folder.mkdir()
        code = _run_pipeline(given, params, source, data_hash, runs, folder, verified)
        _point_latest(runs, folder)
    print(NOTICE)
    return code


def _run_pipeline(
    given: argparse.Namespace,
    params: Parameters,
    source: Path,
    data_hash: str,
    runs: Path,
    folder: Path,
    verified: bool | None,
) -> int:
    from tumorflow.ingestion.pseudonym_key import key_id, load_or_create_key
    from tumorflow_pipelines import summary
    from tumorflow_pipelines.compilation import compile_pipeline
    from tumorflow_pipelines.local_run import run_locally
    from tumorflow_pipelines.train_pipeline import pipeline_arguments

    arguments = pipeline_arguments(
        source=str(source.absolute()),
        data_hash=data_hash,
        key_id=key_id(load_or_create_key()),
        params={step.name: params.section(step.name).model_dump_json() for step in STEPS},
        code={step.name: hash_code(step) for step in STEPS},
    )
    with tempfile.TemporaryDirectory(prefix="tumorflow-run-") as scratch:
        definition = Path(given.pipeline or Path(scratch) / "train.yaml")
        if not given.pipeline:
            compile_pipeline(definition)
        ran = run_locally(definition, arguments, runs / "artifacts", folder / "pipeline.log")
    failure = ran.progress.failure
    if failure is not None:
        write_json(
            folder / "summary.json",
            summary.failed(failure["message"], failure["exit_code"], data_hash, ran.progress.started),
        )
        _finish_tracking(ran.progress.job, False, {}, {"tumorflow.error": failure["message"][:5000]})
        error = TumorflowError(failure["message"])
        error.exit_code = failure["exit_code"]
        _point_latest(runs, folder)
        raise error
    result = {**summary.summarise(ran.outputs, ran.progress.started), "data_verified": verified}
    write_json(folder / "summary.json", result)
    verdict = result["decision"]["verdict"]
    _finish_tracking(
        ran.progress.job,
        True,
        _headline_metrics(result),
        {"tumorflow.decision": verdict, "tumorflow.data_hash": data_hash},
    )
    print("\n".join([*summary.describe(result), f"summary:  {given.runs}/latest/summary.json", *_tell_ui()]))
    return ACCEPTED if verdict == "accepted" else REJECTED


def _tell_verified(verified: bool | None, source: Path) -> str:
    if verified is None:
        return ""
    if verified:
        return f" (as {source}.dvc says)"
    return f"\nnote: this is not the version that {source}.dvc promises; `dvc add {source}` records it"


def _tell_ui() -> list[str]:
    from tumorflow.tracking import default_tracking_uri, tracking_uri

    if tracking_uri() != default_tracking_uri():
        return [f"MLflow:   {tracking_uri().rpartition('@')[2]}"]
    return [f"MLflow:   make ui   (or: mlflow server --host 127.0.0.1 --backend-store-uri {tracking_uri()})"]


def _headline_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: entry["value"]
        for name, entry in result["metrics"].items()
        if isinstance(entry, Mapping) and isinstance(entry.get("value"), float)
    }


def _finish_tracking(
    job: str, succeeded: bool, metrics: Mapping[str, float], tags: Mapping[str, str]
) -> None:
    """Ends the run in MLflow, where a step has begun one; a wholly cached run has none."""
    if not job:
        return
    from tumorflow.tracking import finish_job

    finish_job(job, succeeded, metrics, tags)


def _point_latest(runs: Path, folder: Path) -> None:
    """Makes runs/latest a link to this run, in one rename."""
    aside = runs / ".latest.partial"
    aside.unlink(missing_ok=True)
    aside.symlink_to(folder.name)
    aside.replace(runs / "latest")
