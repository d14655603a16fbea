"""Where MLflow is, a client of it, and its failures in our own words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tumorflow.errors import UnavailableError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "tumorflow"


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
    # MLflow's client waits 2, 4, 8 … seconds between tries: a server that is away for a minute is waited for
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # a server that keeps artifacts in S3 would hand out addresses of the store, which only it can reach
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
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
    from requests import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        code = error.error_code if isinstance(error, MlflowException) else type(error).__name__
        raise UnavailableError(
            f"Runs are tracked by MLflow at MLFLOW_TRACKING_URI. Received: no usable answer from "
            f"{without_credentials(tracking_uri())} ({code}). "
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
