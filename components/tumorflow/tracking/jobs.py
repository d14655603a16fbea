"""Pipeline runs in MLflow: one parent each, found again by its job, and ended with a summary."""

import os
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tumorflow.errors import TumorflowError
from tumorflow.files import read_json
from tumorflow.lineage import read_git_commit
from tumorflow.tracking.connection import connect, experiment_id, explained
from tumorflow.tracking.tracked_run import MlflowTracker

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

JOB_TAG = "tumorflow.job"
STEP_TAG = "tumorflow.step"
SUBMITTED_BY_TAG = "tumorflow.submitted_by"
"""The account that submitted a pipeline run; only a server with the review's policy keeps it honest."""
PARENT_TAG = "mlflow.parentRunId"  # MLflow's own name for what makes a run nested
ATTEMPT_TAG = "tumorflow.attempt"
ERROR_TAG = "tumorflow.error"
FINAL_TAG = "tumorflow.final_exit_code"
"""On a run that failed in a way that trying again cannot mend."""
SUMMARY = "summary.json"


def find_runs(client: "MlflowClient", experiment: str, tags: Mapping[str, str]) -> "list[Run]":
    """Returns the runs that carry all of these tags, the oldest first."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment], filter_string=wanted, order_by=["attribute.start_time ASC"]))


def create_run(client: "MlflowClient", experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """Returns the id of a new run.

    A request that was answered, but whose answer was lost, is sent again by MLflow's client; the run that
    the first one made is deleted.
    """
    attempt = {ATTEMPT_TAG: uuid.uuid4().hex}
    described = {**tags, **attempt, "mlflow.source.git.commit": read_git_commit()}
    run_id = str(client.create_run(experiment, tags=described, run_name=name).info.run_id)
    for twin in find_runs(client, experiment, attempt):
        if twin.info.run_id != run_id:
            client.delete_run(twin.info.run_id)
    return run_id


def find_or_create_parent(client: "MlflowClient", experiment: str, job: str) -> str:
    """Returns the run id of a pipeline run's parent."""
    found = find_parent(client, experiment, job)
    if found:
        return found
    created = create_run(client, experiment, job, {JOB_TAG: job})
    first = find_parent(client, experiment, job) or created
    if first != created:  # a step beside this one was first
        client.delete_run(created)
    return first


def find_parent(client: "MlflowClient", experiment: str, job: str) -> str:
    """Returns the run id of a pipeline run's parent, or an empty string."""
    runs = find_runs(client, experiment, {JOB_TAG: job})
    return next((str(run.info.run_id) for run in runs if PARENT_TAG not in run.data.tags), "")


def sign_job(job: str) -> str:
    """Returns the account that a pipeline run is signed with, as the one that submitted it; or nothing.

    Steps on a cluster run under the pipeline's account. Whoever submitted them made the model, too, and does
    not decide on it.

    Raises:
        UnavailableError: the server cannot be reached or refuses.
    """
    account = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    if not account:
        return ""
    client = connect()
    with explained():
        parent = find_or_create_parent(client, experiment_id(client), job)
        if SUBMITTED_BY_TAG not in client.get_run(parent).data.tags:
            client.set_tag(parent, SUBMITTED_BY_TAG, account)
    return account


def find_finished_steps(job: str) -> list[str]:
    """Returns the names of the steps that a job has run to their end; the others came from a cache."""
    client = connect()
    with explained():
        runs = find_runs(client, experiment_id(client), {JOB_TAG: job})
    return [run.data.tags[STEP_TAG] for run in runs if STEP_TAG in run.data.tags and _finished(run)]


def _finished(run: "Run") -> bool:
    return bool(run.info.status == "FINISHED")


def finish_job(
    job: str,
    status: Literal["FINISHED", "FAILED", "KILLED"],
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    summary: Mapping[str, Any] | None = None,
) -> None:
    """Ends a pipeline run's parent with its main numbers, and every step of it that was left open.

    A repeated call changes nothing but what it is given.

    Raises:
        UnavailableError: the server cannot be reached or refuses.
    """
    client = connect()
    with explained():
        experiment = experiment_id(client)
        parent = find_or_create_parent(client, experiment, job)
        for run in find_runs(client, experiment, {JOB_TAG: job}):
            if run.info.status == "RUNNING" and run.info.run_id != parent:
                client.set_terminated(run.info.run_id, "KILLED")
        MlflowTracker(client, parent).log_metrics(metrics or {})
        for key, value in (tags or {}).items():
            client.set_tag(parent, key, value)
        if summary is not None:
            client.log_dict(parent, dict(summary), SUMMARY)
        client.set_terminated(parent, status)


def find_failure(job: str) -> TumorflowError | None:
    """Returns what ended a job, as the step that failed said it; None where none has said anything."""
    client = connect()
    with explained():
        runs = find_runs(client, experiment_id(client), {JOB_TAG: job})
    for run in reversed(runs):
        if ERROR_TAG in run.data.tags:
            error = TumorflowError(run.data.tags[ERROR_TAG])
            error.exit_code = int(run.data.tags.get(FINAL_TAG, "1"))
            return error
    return None


def fetch_summary(job: str) -> dict[str, Any] | None:
    """Returns the summary that a pipeline run left with its parent; None where there is none.

    Args:
        job: the run's name: on Kubeflow the id of the run.

    Raises:
        UnavailableError: the server cannot be reached or refuses.
    """
    client = connect()
    with explained(), tempfile.TemporaryDirectory(prefix="tumorflow-summary-") as folder:
        parent = find_parent(client, experiment_id(client), job)
        if not parent or not any(file.path == SUMMARY for file in client.list_artifacts(parent)):
            return None
        told: dict[str, Any] = read_json(Path(client.download_artifacts(parent, SUMMARY, folder)))
        return told
