"""Which artifacts stay as they are: those behind a registered version, and the copies of the audit."""

import posixpath
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from sqlalchemy import Connection

from tumorflow.review import records
from tumorflow.review.policy import Refusal

AUDIT_FOLDER = "tumorflow-audit"
_ID = re.compile(r"[0-9a-f]{32}|m-[0-9a-f]{32}")
"""How MLflow names runs and logged models."""

SEALED = Refusal(
    "evidence_sealed",
    "What a registered version comes from stays as it is. Received: a change behind one. Make a new run.",
)


def judge_artifact(connection: Connection, method: str, path: str) -> Refusal | None:
    """Returns why an artifact may be neither written nor removed; None: it may.

    Args:
        connection: to MLflow's database.
        method: of the request; DELETE removes all that lies below the path.
        path: of the artifact, or an address that ends with it.
    """
    parts = split(path)
    if ".." in parts or "\\" in path:
        return Refusal(
            "artifacts_in_place", "An artifact's path leads downwards. Received: one with '..'. Write it out."
        )
    if AUDIT_FOLDER in parts:
        return Refusal(
            "audit_kept", "Copies of the audit are the server's. Received: a change of one. Read them only."
        )
    ids = find_ids(parts)
    if ids and records.is_sealed(connection, ids):
        return SEALED
    if method == "DELETE" and not ids:
        return Refusal(
            "artifacts_in_place",
            "Artifacts are removed run by run. Received: a path above all runs. Name a run's folder.",
        )
    return None


def split(path: str) -> list[str]:
    """Returns the parts of a path, however often it is encoded, in lower case."""
    while (plain := unquote(path)) != path:
        path = plain
    parts = path.casefold().split("/")
    return parts if ".." in parts else posixpath.normpath(path.casefold()).split("/")


def find_ids(values: "list[str] | Mapping[str, Any]") -> list[str]:
    """Returns what names a run or a logged model among these values."""
    found = values.values() if isinstance(values, Mapping) else values
    return [value for value in found if isinstance(value, str) and _ID.fullmatch(value)]
