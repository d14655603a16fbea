"""MLflow runs: one parent a pipeline run, a nested one a step."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumorflow.errors import UnavailableError
from tumorflow.lineage import read_git_commit
from tumorflow.tracker import ModelRegistration, RegisteredVersion, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "tumorflow"
JOB_TAG = "tumorflow.job"
PARENT_TAG = "mlflow.parentRunId"  # MLflow's own name for what makes a run nested


def tracking_uri() -> str:
    """Returns where MLflow is: MLFLOW_TRACKING_URI, else a sqlite file below the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or default_tracking_uri()


def default_tracking_uri() -> str:
    """Returns the address of the store that needs no server."""
    return f"sqlite:///{local_store()}/mlflow.db"


def local_store() -> Path:
    """Returns the folder of the default tracking store."""
    return Path.cwd() / "runs" / "mlflow"


def connect() -> "MlflowClient":
    """Returns a client of the tracking server, after asking it something.

    Raises:
        UnavailableError: the server cannot be reached or refuses.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # without these a server that is away holds a step for minutes before the message comes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    import logging

    import mlflow

    for chatty in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    uri = tracking_uri()
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    with explained():
        client.search_experiments(max_results=1)
    return client


@contextmanager
def explained() -> Iterator[None]:
    """Turns MLflow's own errors in the block into one message.

    Raises:
        UnavailableError: the server cannot be reached or refuses.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise UnavailableError(
            f"Runs are tracked by MLflow at MLFLOW_TRACKING_URI. Received: no usable answer from "
            f"{without_credentials(tracking_uri())} ({error.error_code}). "
            "Check the address, the credentials and the server."
        ) from error


def without_credentials(uri: str) -> str:
    """Returns an address without user and password."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def experiment_id(client: "MlflowClient") -> str:
    """Returns the experiment's id; creates it where it is missing."""
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    found = client.get_experiment_by_name(name)
    if found is None:
        location = None
        if tracking_uri() == default_tracking_uri():  # MLflow itself sets the variable, too
            location = (local_store() / "artifacts").as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another step was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


@contextmanager
def track_step(name: str, job: str, params: Mapping[str, Any]) -> Iterator[Tracker]:
    """Yields the tracked run of a step; it ends as finished, failed or killed, as the block does."""
    client = connect()
    with explained():
        experiment = experiment_id(client)
        tags = {"tumorflow.step": name, "mlflow.source.git.commit": read_git_commit()}
        if job:
            tags |= {PARENT_TAG: find_or_create_parent(client, experiment, job), JOB_TAG: job}
        run = client.create_run(experiment, tags=tags, run_name=name)
        tracker = MlflowTracker(client, run.info.run_id)
        tracker.log_params({f"{name}.{key}": _readable(value) for key, value in params.items()})
    try:
        yield tracker
    except KeyboardInterrupt:
        client.set_terminated(run.info.run_id, "KILLED")
        raise
    except BaseException:
        client.set_terminated(run.info.run_id, "FAILED")
        raise
    client.set_terminated(run.info.run_id, "FINISHED")


def _readable(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)


def find_or_create_parent(client: "MlflowClient", experiment: str, job: str) -> str:
    """Returns the run id of a pipeline run's parent."""
    found = find_parent(client, experiment, job)
    if found:
        return found
    run = client.create_run(
        experiment,
        tags={JOB_TAG: job, "mlflow.source.git.commit": read_git_commit()},
        run_name=job,
    )
    return str(run.info.run_id)


def find_parent(client: "MlflowClient", experiment: str, job: str) -> str:
    """Returns the run id of a pipeline run's parent, or an empty string."""
    runs = client.search_runs(
        [experiment], filter_string=f"tags.`{JOB_TAG}` = '{job}'", order_by=["attribute.start_time ASC"]
    )
    return next((str(run.info.run_id) for run in runs if PARENT_TAG not in run.data.tags), "")


def finish_job(job: str, succeeded: bool, metrics: Mapping[str, float], tags: Mapping[str, str]) -> str:
    """Returns the parent's run id after ending it with the pipeline's main numbers; empty: it has no run."""
    client = connect()
    parent = find_parent(client, experiment_id(client), job)
    if parent:
        tracker = MlflowTracker(client, parent)
        tracker.log_metrics(metrics)
        for key, value in tags.items():
            client.set_tag(parent, key, value)
        client.set_terminated(parent, "FINISHED" if succeeded else "FAILED")
    return parent


class MlflowTracker:
    """A run in MLflow, written through the client: no global active run."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self.client = client
        self.run_id = run_id

    def log_params(self, params: Mapping[str, str | int | float | bool]) -> None:
        """Records settings or facts that do not change during the run."""
        from mlflow.entities import Param

        self.client.log_batch(
            self.run_id, params=[Param(key, str(value)[:6000]) for key, value in params.items()]
        )

    def log_metrics(self, metrics: Mapping[str, float], epoch: int | None = None) -> None:
        """Records numbers, of one epoch where it is given."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(key, float(value), now, epoch or 0) for key, value in metrics.items()]
        for start in range(0, len(entries), 500):  # MLflow takes 1,000 a request
            self.client.log_batch(self.run_id, metrics=entries[start : start + 500])

    def log_folder(self, folder: Path, name: str) -> None:
        """Keeps a copy of a folder's files under `name`."""
        self.client.log_artifacts(self.run_id, str(folder), artifact_path=name)

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Records which data went into the run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:36],  # the column's width
            source_type="tumorflow",
            source=source,
            profile=f'{{"digest": "{digest}"}}',
        )
        self.client.log_inputs(
            self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
        )

    def register_model(self, registration: ModelRegistration) -> RegisteredVersion:
        """Returns the version that holds this model; a repeated call returns the same one."""
        from tumorflow.tracking.registry import register

        return register(self.client, self.run_id, registration)

    def find_champion(self, name: str) -> RegisteredVersion | None:
        """Returns the version that a reviewer made the model's champion; None: there is none."""
        from tumorflow.tracking.registry import find_champion

        with explained():
            return find_champion(self.client, name)

    def fetch_version(self, name: str, version: str, folder: Path, files: Sequence[str]) -> RegisteredVersion:
        """Returns a version, after writing those of `files` that it has into `folder`, under their names."""
        from tumorflow.tracking.registry import fetch

        with explained():
            return fetch(self.client, name, version, folder, files)
