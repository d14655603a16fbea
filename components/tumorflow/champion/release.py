"""What a service needs of a model version, fetched from MLflow and checked against its evidence hash."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from tumorflow.errors import DataError, UnavailableError
from tumorflow.evidence import MANIFEST, hash_manifest, read_manifest
from tumorflow.files import hash_file, read_json

EVIDENCE = "evidence/"
RELEASE = "evidence/release/"
SAVED_MODEL = "evidence/release/saved_model/"
"""For TensorFlow; a service goes without it."""
DECISION = "evidence/release/decision.json"
PREPROCESSING = "evidence/preprocessing.json"


def select_files(manifest: Mapping[str, str]) -> dict[str, str]:
    """Returns what a service takes of a manifest's files, path → SHA-256; no path leaves its folder."""
    return {
        path: digest
        for path, digest in manifest.items()
        if ((path.startswith(RELEASE) and not path.startswith(SAVED_MODEL)) or path == PREPROCESSING)
        and not {"", ".", ".."} & set(path.split("/"))
        and "\\" not in path
    }


def place_of(path: str) -> str:
    """Returns where a file of the evidence lies in a champion's folder."""
    return path.removeprefix(EVIDENCE)


def find_faults(folder: Path, evidence_hash: str) -> list[str]:
    """Returns why a folder is not the whole release of this evidence; an empty list: it is."""
    manifest = folder / place_of(MANIFEST)
    if not manifest.is_file():
        return ["it has no manifest"]
    content = manifest.read_bytes()
    if hash_manifest(content) != evidence_hash:
        return ["its manifest is another than the one that was decided on"]
    files = select_files(read_manifest(content))
    faults = [f"{path} is missing" for path in (DECISION, PREPROCESSING) if path not in files]
    if not any(path.endswith(".tflite") for path in files):
        faults.append("it has no TFLite file")
    for path, digest in files.items():
        place = folder / place_of(path)
        if not place.is_file():
            faults.append(f"{path} is missing")
        elif hash_file(place) != digest:
            faults.append(f"{path} was changed")
    if not faults and read_json(folder / place_of(DECISION)).get("decision") != "accepted":
        faults.append("the gate did not accept it")
    return faults


def fetch_release(model: str, version: str, evidence_hash: str, folder: Path) -> None:
    """Writes a version's release to an empty folder.

    Raises:
        DataError: its evidence is not what was decided on.
        UnavailableError: MLflow cannot be reached, or has no such files.
    """
    from tumorflow.tracking.connection import connect, explained

    client = connect()
    with explained():
        run_id = str(client.get_model_version(model, version).run_id)
    name = f"{model}/{version}"
    _download(name, run_id, MANIFEST, folder)
    content = (folder / place_of(MANIFEST)).read_bytes()
    if hash_manifest(content) == evidence_hash:  # else nothing that it names is worth fetching
        for path in select_files(read_manifest(content)):
            _download(name, run_id, path, folder)
    refuse_faults(name, folder, evidence_hash)


def refuse_faults(name: str, folder: Path, evidence_hash: str) -> None:
    """Returns when a folder is the whole release of this evidence.

    Raises:
        DataError: it is not.
    """
    faults = find_faults(folder, evidence_hash)
    if faults:
        raise DataError(
            f"A champion is what its reviewer decided on, byte for byte. Received: {name}, where "
            f"{'; '.join(faults[:3])}. The champion before it stays. Run `tumorflow audit verify`."
        )


def _download(name: str, run_id: str, path: str, folder: Path) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    target = folder / place_of(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as aside:
        try:
            found = download_artifacts(run_id=run_id, artifact_path=path, dst_path=aside)
        except (MlflowException, RequestException, OSError) as error:
            raise UnavailableError(
                "A version's evidence can be fetched from MLflow. Received: "
                f"{type(error).__name__} for '{PurePosixPath(path).name}' of {name}. "
                "Check the store and your access."
            ) from error
        Path(found).replace(target)


def describe(model: str, version: str, evidence_hash: str) -> str:
    """Returns the content of the folder's `version.json`."""
    return json.dumps({"model": model, "version": version, "evidence_hash": evidence_hash}, indent=2) + "\n"
