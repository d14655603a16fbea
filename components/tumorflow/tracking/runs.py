"""The run of one step in MLflow, nested below that of its pipeline run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tumorflow.errors import TumorflowError, UnavailableError
from tumorflow.tracker import Tracker
from tumorflow.tracking.connection import connect, experiment_id, explained
from tumorflow.tracking.jobs import (
    ERROR_TAG,
    FINAL_TAG,
    JOB_TAG,
    PARENT_TAG,
    STEP_TAG,
    create_run,
    find_or_create_parent,
    find_runs,
)
from tumorflow.tracking.tracked_run import MlflowTracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

WORTH_A_RETRY = (UnavailableError, OSError, MemoryError)
"""Failures of what surrounds a step; any other would come again."""


@contextmanager
def track_step(name: str, job: str, params: Mapping[str, Any]) -> Iterator[Tracker]:
    """Yields the tracked run of a step; it ends as finished, failed or killed, as the block does.

    Raises:
        UnavailableError: the server cannot be reached or refuses.
        TumorflowError: an earlier try of this step in this job failed in a way that stays.
    """
    client = connect()
    with explained():
        experiment = experiment_id(client)
        tags = {STEP_TAG: name}
        if job:
            _settle_earlier_tries(client, experiment, job, name)
            tags |= {PARENT_TAG: find_or_create_parent(client, experiment, job), JOB_TAG: job}
        run_id = create_run(client, experiment, name, tags)
        tracker = MlflowTracker(client, run_id)
        tracker.log_params({f"{name}.{key}": _readable(value) for key, value in params.items()})
    try:
        yield tracker
        with explained():
            client.set_terminated(run_id, "FINISHED")
    except BaseException as error:
        _end_unfinished(client, run_id, error)
        raise


def _end_unfinished(client: "MlflowClient", run_id: str, error: BaseException) -> None:
    """Ends a step's run that did not finish; where MLflow is away, the step's own error counts for more."""
    try:
        with explained():
            if isinstance(error, TumorflowError):
                client.set_tag(run_id, ERROR_TAG, str(error)[:5000])
            elif isinstance(error, Exception):  # its own text may hold anything
                told = f"A step ended unforeseen, with {type(error).__name__}. Its log has the details."
                client.set_tag(run_id, ERROR_TAG, told)
            if isinstance(error, Exception) and not isinstance(error, WORTH_A_RETRY):
                client.set_tag(run_id, FINAL_TAG, str(getattr(error, "exit_code", 1)))
            client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
    except UnavailableError:
        print("note: MLflow could not be told that the step ended; its run stays open", flush=True)


def _settle_earlier_tries(client: "MlflowClient", experiment: str, job: str, name: str) -> None:
    """Ends what a killed try of the step left open.

    Kubeflow starts every failed pod again, whatever it failed of. A pod that was lost is worth that; data
    that cannot be split is not, and would be as hopeless the next time.

    Raises:
        TumorflowError: an earlier try failed in a way that stays.
    """
    for run in find_runs(client, experiment, {JOB_TAG: job, STEP_TAG: name}):
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "KILLED")
        if FINAL_TAG in run.data.tags:
            error = TumorflowError(run.data.tags.get(ERROR_TAG, "The step failed before."))
            error.exit_code = int(run.data.tags[FINAL_TAG])
            raise error


def _readable(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)
