"""`tumorflow run`: the compiled pipeline, from a source to a gated and registered model."""

import argparse
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tumorflow.chain import STEPS
from tumorflow.cli import NOTICE, add_parameter_options, parameters_of
from tumorflow.errors import ParameterError, TumorflowError, UsageError
from tumorflow.files import hash_file, write_json
from tumorflow.lineage import hash_code
from tumorflow.params import Parameters
from tumorflow.tracking import without_credentials
from tumorflow_pipelines import summary

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
    """Returns 0 for an accepted model, 3 for a rejected one; a run that fails raises what ended it."""
    from tumorflow_pipelines.data_version import committed_hash, hash_source
    from tumorflow_pipelines.local_run import exclusive, interrupted_by_termination

    params = parameters_of(given)
    source = Path(given.source).expanduser()
    runs = Path(given.runs).absolute()
    check_paths(given, params, runs)
    with exclusive(runs), interrupted_by_termination():
        data_hash = hash_source(source, runs / "hashes")
        promised = committed_hash(Path(f"{source}.dvc"))
        verified = promised == data_hash if promised else None
        print(f"data: {source}, version {data_hash}{_tell_verified(verified, source)}")
        folder = runs / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%fZ")
        folder.mkdir()
        try:
            told = _run_pipeline(given, params, source, data_hash, runs, folder)
        except BaseException as error:
            write_json(folder / "summary.json", summary.failed(error, data_hash))
            _point_latest(runs, folder)
            raise
        told = {**told, "data_verified": verified}
        write_json(folder / "summary.json", told)
        _point_latest(runs, folder)
    print("\n".join([*summary.describe(told), f"summary:  {given.runs}/latest/summary.json", *_tell_ui()]))
    print(NOTICE)
    return ACCEPTED if told["decision"]["verdict"] == "accepted" else REJECTED


def check_paths(given: argparse.Namespace, params: Parameters, runs: Path) -> None:
    """Refuses at the start what would fail late: a missing file of weights, a definition, a folder.

    Raises:
        UsageError: an option or parameter names no such file.
    """
    if given.pipeline and not Path(given.pipeline).is_file():
        raise UsageError(
            f"--pipeline names a compiled definition. Received: {given.pipeline}, which is no file. "
            "Write one: tumorflow compile"
        )
    if runs.exists() and not runs.is_dir():
        raise UsageError(f"--runs names a folder. Received: {given.runs}, which is none. Name another.")
    weights = params.train.weights
    if weights not in ("imagenet", "none") and not Path(weights).is_file():
        raise ParameterError(
            f"Parameter 'train.weights': imagenet, none, or the path of a Keras weights file. "
            f"Received: {weights!r}, which is no file."
        )


def hash_codes(params: Parameters) -> dict[str, str]:
    """Returns each step's code hash by its name; that of a weights file counts as training's code."""
    codes = {step.name: hash_code(step) for step in STEPS}
    if params.train.weights not in ("imagenet", "none"):
        codes["train"] += f"-{hash_file(Path(params.train.weights))[:16]}"
    return codes


def _run_pipeline(
    given: argparse.Namespace, params: Parameters, source: Path, data_hash: str, runs: Path, folder: Path
) -> dict[str, Any]:
    """Returns the run's summary; tracks the end of the run."""
    from tumorflow.ingestion.pseudonym_key import key_id, load_or_create_key
    from tumorflow.tracking import tracking_uri
    from tumorflow_pipelines.compilation import compile_pipeline
    from tumorflow_pipelines.local_run import run_locally
    from tumorflow_pipelines.train_pipeline import pipeline_arguments

    arguments = pipeline_arguments(
        source=str(source.absolute()),
        data_hash=data_hash,
        key_id=key_id(load_or_create_key()),
        registry=without_credentials(tracking_uri()),
        params={step.name: params.section(step.name).model_dump_json() for step in STEPS},
        code=hash_codes(params),
    )
    with tempfile.TemporaryDirectory(prefix="tumorflow-run-") as scratch:
        definition = Path(given.pipeline or Path(scratch) / "train.yaml")
        if not given.pipeline:
            compile_pipeline(definition)
        ran = run_locally(definition, arguments, runs / "artifacts", folder / "pipeline.log")
        if not ran.progress.failure and "export" not in ran.progress.started:
            current = summary.look_up(ran.outputs)
            if current is None:  # the registry no longer has what the cache remembers
                renewed = {**arguments, "registry": f"{arguments['registry']} since {folder.name}"}
                ran = run_locally(definition, renewed, runs / "artifacts", folder / "pipeline.log")
    if ran.progress.failure:
        message = ran.progress.failure["message"]
        _finish_tracking(ran.progress.job, False, {}, {"tumorflow.error": message[:5000]})
        error = TumorflowError(message)
        error.exit_code = ran.progress.failure["exit_code"]
        raise error
    told = summary.summarise(ran.outputs, ran.progress.started)
    tags = {"tumorflow.decision": told["decision"]["verdict"], "tumorflow.data_hash": data_hash}
    _finish_tracking(ran.progress.job, True, _headline_metrics(told), tags)
    return told


def _tell_verified(verified: bool | None, source: Path) -> str:
    if verified is None:
        return ""
    if verified:
        return f" (as {source}.dvc says)"
    return f"\nnote: this is not the version that {source}.dvc promises; `dvc add {source}` records it"


def _tell_ui() -> list[str]:
    from tumorflow.tracking import default_tracking_uri, tracking_uri

    if tracking_uri() != default_tracking_uri():
        return [f"MLflow:   {without_credentials(tracking_uri())}"]
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
