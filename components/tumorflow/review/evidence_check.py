"""Whether the evidence of a version is still what was registered: every file of it, read again and hashed."""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tumorflow.evidence import find_differences, hash_manifest
from tumorflow.files import hash_file

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

EVIDENCE = "evidence"
MANIFEST = "evidence/manifest.json"
DECISION = "evidence/release/decision.json"
PROXY = "mlflow-artifacts"


@dataclass(frozen=True)
class Examination:
    """What the evidence says now."""

    gate: str
    """The decision in it; empty: there is none."""
    differences: tuple[str, ...]
    """From what was registered."""


def examine(run_location: str, model_location: str, registered_hash: str) -> Examination:
    """Returns what the evidence of a version says now, and where it differs from what was registered.

    Args:
        run_location: address of the artifacts of the run that made the version.
        model_location: address of the logged model's files.
        registered_hash: SHA-256 of the manifest at the registration.
    """
    with tempfile.TemporaryDirectory(prefix="tumorflow-evidence-") as aside:
        run_files = fetch(run_location, EVIDENCE, Path(aside) / "run")
        manifest = run_files.get(MANIFEST)
        if manifest is None:
            return Examination("", (f"{MANIFEST} is missing",))
        content = manifest.read_bytes()
        if hash_manifest(content) != registered_hash:
            return Examination("", (f"{MANIFEST} was changed",))
        model_files = fetch(model_location, "", Path(aside) / "model")
        found = {name: hash_file(path) for name, path in run_files.items() if name != MANIFEST}
        found |= {f"model/{name}": hash_file(path) for name, path in model_files.items()}
        differences = find_differences(content, found)
        return Examination("" if differences else read_decision(run_files), tuple(differences))


def read_decision(files: dict[str, Path]) -> str:
    """Returns what the gate decided, from its file among the evidence; empty where none is to be had."""
    path = files.get(DECISION)
    if path is None:
        return ""
    decision = json.loads(path.read_text())
    accepted = decision["decision"] == "accepted" and all(rule["passed"] for rule in decision["rules"])
    return "accepted" if accepted else "rejected"


def fetch(location: str, below: str, folder: Path) -> dict[str, Path]:
    """Returns the files at an address, by their path there, after downloading them into `folder`.

    Raises:
        MlflowException: the store does not answer.
    """
    store = open_store(location)
    folder.mkdir()
    if store.list_artifacts(below):
        store.download_artifacts(below, str(folder))
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def open_store(location: str) -> "ArtifactRepository":
    """Returns the artifact store behind an address, past the proxy that this server itself is."""
    from mlflow.server import ARTIFACTS_DESTINATION_ENV_VAR
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.uri import append_to_uri_path

    parts = urlsplit(location)
    if parts.scheme == PROXY:
        location = append_to_uri_path(os.environ[ARTIFACTS_DESTINATION_ENV_VAR], parts.path)
    return get_artifact_repository(location)
