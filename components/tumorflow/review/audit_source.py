"""Where a client reads the audit: from MLflow's server, or straight from its database."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumorflow.errors import UnavailableError
from tumorflow.review import ledger
from tumorflow.review.audit import Entry, from_json
from tumorflow.review.delivery import copies_at
from tumorflow.tracking.connection import connect, explained, tracking_uri, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

ROUTE = "/api/2.0/tumorflow/audit"
_DATABASES = ("sqlite:", "postgresql")


def read_entries(after: int = 0) -> list[Entry]:
    """Returns the entries with a sequence above `after`, in the order in which they are kept.

    Raises:
        UnavailableError: neither the server nor the database at MLFLOW_TRACKING_URI has an audit.
    """
    uri = tracking_uri()
    return _read_database(uri, after) if uri.startswith(_DATABASES) else _read_server(uri, after)


def _read_database(uri: str, after: int) -> list[Entry]:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    file = uri.removeprefix("sqlite:///")
    if file != uri and not Path(file).is_file():
        raise _no_audit(uri, "no such file")
    try:
        with create_engine(uri, poolclass=NullPool).connect() as connection:
            return ledger.read(connection, after)
    except SQLAlchemyError as error:
        raise _no_audit(uri, type(error).__name__) from error


def _read_server(uri: str, after: int) -> list[Entry]:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    def ask(last: int) -> list[Entry]:
        with explained():
            reply = http_request(
                get_default_host_creds(uri), ROUTE, "GET", params={"after": last}, max_retries=2, timeout=30
            )
            content = verify_rest_response(reply, ROUTE).text
        return _parse(uri, content)

    return _read_pages(ask, after)


def _read_pages(ask: Callable[[int], list[Entry]], after: int) -> list[Entry]:
    """Returns what a server hands out, which may be in parts."""
    entries: list[Entry] = []
    while page := ask(after):
        entries += page
        last = page[-1].sequence
        if last <= after:  # out of order: whoever reads this finds out
            break
        after = last
    return entries


def _parse(uri: str, content: str) -> list[Entry]:
    import json

    try:
        return [from_json(entry) for entry in json.loads(content)["entries"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _no_audit(uri, type(error).__name__) from error


def _no_audit(uri: str, reason: str) -> UnavailableError:
    return UnavailableError(
        "The audit is kept by MLflow's server with tumorflow's app (`make registry`), or in its database. "
        f"Received: none at {without_credentials(uri)} ({reason}). Check MLFLOW_TRACKING_URI."
    )


def read_copies(destination: str) -> dict[str, bytes]:
    """Returns the exported copies: file name → content; empty where there are none.

    Raises:
        UnavailableError: the artifact store cannot be reached.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from requests import RequestException

    connect()  # `mlflow-artifacts:` is relative to the tracking server
    try:
        repository = get_artifact_repository(copies_at(destination))
        if not repository.list_artifacts():
            return {}
        with tempfile.TemporaryDirectory(prefix="tumorflow-audit-") as aside:
            folder = Path(repository.download_artifacts("", dst_path=aside))
            return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    except (MlflowException, RequestException, OSError) as error:
        raise _no_copies(destination, error) from error
    except Exception as error:
        if type(error).__module__.startswith(("boto", "urllib3")):  # S3's client raises kinds of its own
            raise _no_copies(destination, error) from error
        raise


def _no_copies(destination: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"The copies of the audit are in the server's artifact store. Received: {type(error).__name__} from "
        f"{without_credentials(destination)}. Name it by --export, and check your access to it."
    )


def read_champions(client: "MlflowClient") -> dict[str, str]:
    """Returns the version that has the alias `champion`, for each model that has one."""
    return {
        model.name: str(model.aliases["champion"])
        for model in _pages(client.search_registered_models)
        if "champion" in model.aliases
    }


def read_evidence_hashes(client: "MlflowClient") -> dict[tuple[str, str], str]:
    """Returns the evidence hash that each version's tag has, by model and version; empty: it has none."""
    from tumorflow.evidence import HASH_TAG

    return {
        (version.name, str(version.version)): version.tags.get(HASH_TAG, "")
        for version in _pages(client.search_model_versions)
    }


def _pages(search: Callable[..., Any]) -> list[Any]:
    found: list[Any] = []
    token = None
    with explained():
        while True:
            page = search(max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found
