"""`tumorflow submit`: the pipeline as a run on Kubeflow, followed to its decision."""

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tumorflow.cli import INTERRUPTED, NOTICE, add_parameter_options, parameters_of
from tumorflow.errors import TumorflowError, UnavailableError
from tumorflow_pipelines.compilation import PIPELINES
from tumorflow_pipelines.kubeflow_connection import add_connection_options, connection_of

if TYPE_CHECKING:
    from tumorflow.cluster import ClusterParams
    from tumorflow.storage import ResolvedSource
    from tumorflow_pipelines.kubeflow_client import Kubeflow

SUMMARY = "run the whole pipeline on Kubeflow, and follow it"
EXAMPLE = "tumorflow submit --host http://localhost:8888 --source s3://bucket/ct --preset lidc_idri"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--source", required=True, metavar="SOURCE", help="s3://bucket/prefix, REPO@REV or a mounted folder"
    )
    parser.add_argument(
        "--data-hash",
        default="",
        metavar="HASH",
        help="version of the data, where it cannot be told from here",
    )
    parser.add_argument(
        "--pipeline", choices=PIPELINES, default="train", help="which one to run (default: train)"
    )
    parser.add_argument("--experiment", default="", metavar="NAME", help="an experiment that exists")
    parser.add_argument("--name", default="", metavar="TEXT", help="the run's name (default: with the time)")
    parser.add_argument("--no-wait", action="store_true", help="start the run, and leave it")
    parser.add_argument(
        "--output", metavar="DIR", help="folder for summary.json (default: runs/ and the run's id)"
    )
    add_connection_options(parser)
    add_parameter_options(parser)


def run(given: argparse.Namespace) -> int:
    """Returns 0 for an accepted model, 3 for a rejected one; a run that fails raises what ended it."""
    from tumorflow_pipelines import submission
    from tumorflow_pipelines.kubeflow_client import connected
    from tumorflow_pipelines.outcome import run_page

    params = parameters_of(given)
    connection = connection_of(given, params.cluster.namespace)
    with tempfile.TemporaryDirectory(prefix="tumorflow-submit-") as scratch:
        definition = submission.write_definition(given.pipeline, params, Path(scratch))
        kubeflow = connected(connection)
        source = _find_source(given, params.cluster)
        print(f"data: {given.source}, version {source.data_hash or 'found in the run'}")
        experiment = submission.experiment_id(kubeflow, given.experiment)
        version = submission.upload(kubeflow, given.pipeline, definition)
        champion = "" if given.pipeline == "retrain" else _find_champion(params.export.registered_model)
        arguments = submission.describe_arguments(definition, params, source, champion)
    name = given.name or f"{given.pipeline} {datetime.now(UTC).strftime('%Y-%m-%dT%H-%M-%S-%fZ')}"
    asked = submission.describe_run(name, experiment, version, arguments, params.cluster)
    started = submission.start_run(kubeflow, asked)
    print(f"run: {started.run_id}, {run_page(kubeflow, started.run_id)}", flush=True)
    print(_sign(started.run_id), flush=True)
    if given.no_wait:
        print(f"it goes on by itself: tumorflow status {started.run_id}")
        return 0
    return follow_to_end(kubeflow, started.run_id, Path(given.output or f"runs/{started.run_id}"))


def _find_champion(model: str) -> str:
    """Returns the yardstick of a run that does not find it by itself, and says what it is."""
    from tumorflow.tracking import look_up_champion, tracking_uri

    if not tracking_uri().startswith("http"):
        print("champion: not looked up, without MLFLOW_TRACKING_URI and an account of yours there")
        return ""
    try:
        champion = look_up_champion(model)
    except UnavailableError as error:  # the run goes on without
        print(f"champion: not looked up. {error}")
        return ""
    print(f"champion: {champion}, the yardstick" if champion else "champion: none yet")
    return champion


def _sign(run_id: str) -> str:
    """Returns what MLflow knows of who submitted a run, after telling it where the caller has an account."""
    from tumorflow.tracking import sign_job, tracking_uri

    unsigned = "submitted by: not recorded, without MLFLOW_TRACKING_URI and an account of yours there"
    if not tracking_uri().startswith("http"):
        return unsigned
    try:
        account = sign_job(run_id)
    except UnavailableError as error:  # the run goes on without
        return f"submitted by: not recorded. {error}"
    return f"submitted by: {account}" if account else unsigned


def _find_source(given: argparse.Namespace, cluster: "ClusterParams") -> "ResolvedSource":
    """Returns the source; its version only for the pipeline that does not find it in the run."""
    from tumorflow.storage import ResolvedSource
    from tumorflow_pipelines import submission

    if given.pipeline == "retrain":
        submission.require_reachable(given.source, cluster)
        return ResolvedSource(given.source, "")
    return submission.locate(given.source, given.data_hash, cluster, Path.cwd() / "runs" / "hashes")


def follow_to_end(kubeflow: "Kubeflow", run_id: str, output: Path | None) -> int:
    """Returns the exit code of a run after following it to its end and telling of that."""
    from tumorflow_pipelines.following import follow
    from tumorflow_pipelines.outcome import conclude

    try:
        ended = follow(kubeflow, run_id)
    except KeyboardInterrupt:
        print(
            f"tumorflow: following ended, the run goes on. See to it again: tumorflow status {run_id} --wait",
            file=sys.stderr,
        )
        return INTERRUPTED
    except TumorflowError:
        print(f"the run goes on by itself: tumorflow status {run_id} --wait", file=sys.stderr)
        raise
    outcome = conclude(kubeflow, ended, output)
    print("\n".join([*outcome.lines, NOTICE]))
    return outcome.exit_code
