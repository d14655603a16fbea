"""The manifest of a version's evidence: what a reviewer decided on, byte for byte.

A version's tag `tumorflow.evidence_hash` is the hash of its manifest, and the manifest has the hash of every
file; so whoever knows the tag can tell whether anything was changed, removed or added since.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tumorflow.files import hash_file

MANIFEST = "evidence/manifest.json"
"""Where the manifest lies in the artifacts of the version's run; it does not list itself."""
HASH_TAG = "tumorflow.evidence_hash"
NEEDED = (
    "evidence/evaluation/metrics.json",
    "evidence/evaluation/report.html",
    "evidence/release/decision.json",
    "model/MLmodel",
    "model/data/model.keras",
)
"""Without these there is nothing to decide on."""


def hash_files(folder: Path, below: str) -> dict[str, str]:
    """Returns the SHA-256 of every file of a folder, by its path with `below` before it; no manifest."""
    found = {
        f"{below}/{path.relative_to(folder).as_posix()}": hash_file(path)
        for path in folder.rglob("*")
        if path.is_file()
    }
    return {path: found[path] for path in sorted(found) if path != MANIFEST}


def describe_files(hashes: Mapping[str, str]) -> bytes:
    """Returns the manifest of these files: the same bytes, whatever their order.

    Args:
        hashes: path → SHA-256 of the content, 64 hexadecimal digits. `evidence/…` are paths in the artifacts
            of the version's run, `model/…` below the logged model.
    """
    content = {"files": dict(hashes)}
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode()


def hash_manifest(manifest: bytes) -> str:
    """Returns the SHA-256 of the manifest's bytes, 64 hexadecimal digits: the version's evidence hash."""
    return hashlib.sha256(manifest).hexdigest()


def read_manifest(manifest: bytes) -> dict[str, str]:
    """Returns the hashes that a manifest lists, by path; nothing where it is no manifest."""
    try:
        files = json.loads(manifest)["files"]
        return {str(path): str(digest) for path, digest in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def find_differences(manifest: bytes, hashes_found: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each file that is not as the manifest says; an empty list: all is as it was.

    A manifest that lacks one of the files in `NEEDED`, or is none, differs too.

    Args:
        manifest: its bytes.
        hashes_found: what there is now, path → SHA-256, as in `describe_files`.
    """
    listed = read_manifest(manifest)
    told = [f"{path} is not in the manifest, and needed." for path in NEEDED if path not in listed]
    for path in sorted({*listed, *hashes_found} - {MANIFEST}):
        if path not in hashes_found:
            told.append(f"{path} is missing.")
        elif path not in listed:
            told.append(f"{path} was added.")
        elif listed[path] != hashes_found[path]:
            told.append(f"{path} was changed.")
    return told
