"""`tumorflow run`: the compiled pipeline, from a source to a gated and registered model."""

import argparse
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tumorflow.cli import NOTICE, add_parameter_options, parameters_of
from tumorflow.cluster import ClusterParams
from tumorflow.conclusion import failed
from tumorflow.errors import ParameterError, TumorflowError, UnavailableError, UsageError
from tumorflow.files import write_json
from tumorflow.lineage import read_git_commit
from tumorflow.params import Parameters
from tumorflow.tracking import tracking_uri, without_credentials
from tumorflow_pipelines import summary
from tumorflow_pipelines.compilation import PIPELINES, compile_pipeline

SUMMARY = "run the whole pipeline on a source, unchanged steps from the cache"
EXAMPLE = "tumorflow run --source ~/iqoth_nccd --preset iqoth_nccd --set train.epochs=20"
DONE, REJECTED = 0, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--source",
        default="data",
        metavar="SOURCE",
        help="folder, s3://bucket/prefix or REPO@REV with DICOM files, or one folder of images a class "
        "(default: data)",
    )
    parser.add_argument(
        "--runs", default="runs", metavar="DIR", help="where results are kept (default: runs)"
    )
    parser.add_argument(
        "--runner",
        choices=("process", "docker"),
        default="process",
        help="run each step as a process, or in its container by Docker or podman (default: process)",
    )
    parser.add_argument(
        "--memory", default="", metavar="SIZE", help="the most memory a container may have, such as 4g"
    )
    parser.add_argument(
        "--pipeline",
        default="train",
        metavar="NAME",
        help="train, retrain (only if enough is new to the champion), or a compiled definition's file "
        "(default: train)",
    )
    add_parameter_options(parser)


def run(given: argparse.Namespace) -> int:
    """Returns 0 for an accepted model or nothing to do, 3 for a rejected one; a run that fails raises."""
    from tumorflow_pipelines.data_version import committed_hash, resolve_source
    from tumorflow_pipelines.local_run import exclusive, interrupted_by_termination

    params = parameters_of(given)
    runs = Path(given.runs).absolute()
    check_paths(given, params, runs)
    with exclusive(runs), interrupted_by_termination():
        end_abandoned(runs)
        source = resolve_source(given.source, runs / "hashes")
        promised = committed_hash(Path(f"{source.source}.dvc"))
        verified = promised == source.data_hash if promised else None
        print(f"data: {given.source}, version {source.data_hash}{_tell_verified(verified, given.source)}")
        folder = runs / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%fZ")
        folder.mkdir()
        try:
            told = _run_pipeline(given, params, source.source, source.data_hash, runs, folder)
        except BaseException as error:
            _record_failure(error, folder, source.data_hash)
            _point_latest(runs, folder)
            raise
        told = {**told, "data_verified": verified}
        write_json(folder / "summary.json", told)
        _point_latest(runs, folder)
    print("\n".join([*summary.describe(told), f"summary:  {given.runs}/latest/summary.json", *_tell_ui()]))
    print(NOTICE)
    return REJECTED if told["decision"]["verdict"] == "rejected" else DONE


def check_paths(given: argparse.Namespace, params: Parameters, runs: Path) -> None:
    """Refuses at the start what would fail late: a missing file of weights, a definition, a folder.

    Raises:
        UsageError: an option or parameter names no such file.
    """
    if given.pipeline not in PIPELINES and not Path(given.pipeline).is_file():
        raise UsageError(
            f"--pipeline is {' or '.join(PIPELINES)}, or names a compiled definition. Received: "
            f"{given.pipeline}, which is no file. Write one: tumorflow compile"
        )
    if given.memory and given.runner == "process":
        raise UsageError(
            f"--memory is the limit of a container. Received: {given.memory}, without --runner docker. "
            "Add that, or leave the limit out."
        )
    if given.memory and not re.fullmatch(r"[1-9][0-9]*[bkmg]?", given.memory):
        raise UsageError(f"--memory is a number and b, k, m or g. Received: {given.memory}. For example: 4g")
    if runs.exists() and not runs.is_dir():
        raise UsageError(f"--runs names a folder. Received: {given.runs}, which is none. Name another.")
    weights = params.train.weights
    if weights not in ("imagenet", "none") and not Path(weights).is_file():
        raise ParameterError(
            f"Parameter 'train.weights': imagenet, none, or the path of a Keras weights file. "
            f"Received: {weights!r}, which is no file."
        )


def _run_pipeline(
    given: argparse.Namespace, params: Parameters, source: str, data_hash: str, runs: Path, folder: Path
) -> Mapping[str, Any]:
    """Returns the run's summary."""
    from tumorflow.ingestion.pseudonym_key import key_id, load_or_create_key
    from tumorflow.tracking import look_up_champion
    from tumorflow_pipelines.arguments import pipeline_arguments
    from tumorflow_pipelines.local_run import run_locally

    job = folder.name
    with tempfile.TemporaryDirectory(prefix="tumorflow-run-") as scratch:
        definition, images = prepare_definition(given, params, source, runs, Path(scratch))
        arguments = pipeline_arguments(
            definition,
            params,
            source=source,
            data_hash=data_hash,
            key_id=key_id(load_or_create_key()),
            registry=without_credentials(tracking_uri()),
            images=images,
            # retraining finds its yardstick by itself
            champion="" if given.pipeline == "retrain" else look_up_champion(params.export.registered_model),
        )
        if arguments.get("champion"):
            print(f"champion: {arguments['champion']}, the yardstick")
        log = folder / "pipeline.log"
        ran = run_locally(definition, arguments, runs / "artifacts", log, job)
        if not ran.progress.failure and not ran.summary.get("registered", True):
            # the registry no longer has what the cache remembers
            arguments = {**arguments, "registry": f"{arguments['registry']} since {job}"}
            ran = run_locally(definition, arguments, runs / "artifacts", log, job)
    if ran.progress.failure:
        error = TumorflowError(ran.progress.failure["message"])
        error.exit_code = ran.progress.failure["exit_code"]
        raise error
    return ran.summary


def prepare_definition(
    given: argparse.Namespace, params: Parameters, source: str, runs: Path, scratch: Path
) -> tuple[Path, dict[str, str]]:
    """Returns the definition to run, and the ids of its images where steps run in containers."""
    definition = Path(given.pipeline)
    if given.pipeline in PIPELINES:
        definition = scratch / f"{given.pipeline}.yaml"
        # of the cluster's settings a laptop needs the images alone; and it would sleep through a back-off
        local = ClusterParams(images=params.cluster.images).without_retries()
        compile_pipeline(definition, local, params.preprocess.parallel_parts, name=given.pipeline)
    if given.runner == "process":
        return definition, {}
    from tumorflow_pipelines.container_run import contain_definition

    return contain_definition(definition, params, source, runs, scratch, memory=given.memory)


def end_abandoned(runs: Path) -> None:
    """Ends in MLflow what earlier runs left open that were killed, and so could not do it themselves."""
    from tumorflow.tracking import finish_job
    from tumorflow_pipelines.containers import find_engine, remove_left_containers

    abandoned = [path.parent for path in sorted(runs.glob("*/pipeline.log"))]
    abandoned = [folder for folder in abandoned if not (folder / "summary.json").exists()]
    if abandoned:
        with suppress(UnavailableError):  # without an engine none is left working
            remove_left_containers(find_engine(), str(runs))
    for folder in abandoned:
        told = {**failed(KeyboardInterrupt()), "status": "killed"}
        finish_job(folder.name, "KILLED")
        write_json(folder / "summary.json", told)


def _record_failure(error: BaseException, folder: Path, data_hash: str) -> None:
    write_json(folder / "summary.json", failed(error, data_hash, read_git_commit()))
    if isinstance(error, KeyboardInterrupt):  # any other end has been told by the pipeline itself
        from tumorflow.tracking import finish_job

        with suppress(UnavailableError):
            finish_job(folder.name, "KILLED")


def _tell_verified(verified: bool | None, source: str) -> str:
    if verified is None:
        return ""
    if verified:
        return f" (as {source}.dvc says)"
    return f"\nnote: this is not the version that {source}.dvc promises; `dvc add {source}` records it"


def _tell_ui() -> list[str]:
    from tumorflow.tracking import default_tracking_uri

    if tracking_uri() != default_tracking_uri():
        return [f"MLflow:   {without_credentials(tracking_uri())}"]
    return [f"MLflow:   make ui   (or: mlflow server --host 127.0.0.1 --backend-store-uri {tracking_uri()})"]


def _point_latest(runs: Path, folder: Path) -> None:
    """Makes runs/latest a link to this run, in one rename."""
    aside = runs / ".latest.partial"
    aside.unlink(missing_ok=True)
    aside.symlink_to(folder.name)
    aside.replace(runs / "latest")
