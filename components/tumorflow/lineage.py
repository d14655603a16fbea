"""Where a result comes from: hashes of code, settings and content, and the commit."""

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tumorflow.chain import Step
from tumorflow.files import hash_file

PACKAGE = Path(__file__).parent
RECORD = "record.json"
LIBRARIES = {
    "light": (
        "great-expectations",
        "mlflow-skinny",
        "numpy",
        "opencv-python-headless",
        "pandas",
        "pillow",
        "pyarrow",
        "pydicom",
        "pylibjpeg",
        "pylibjpeg-openjpeg",
        "pylibjpeg-rle",
        "python-gdcm",
        "scikit-image",
    ),
    "tensorflow": (
        "ai-edge-litert",
        "keras",
        "matplotlib",
        "mlflow-skinny",
        "numpy",
        "opencv-python-headless",
        "pandas",
        "pyarrow",
        "tensorflow-cpu",
    ),
}
"""By image, what may decide results; no more, so that a step has one hash in its image and outside."""


def hash_code(step: Step) -> str:
    """Returns the hash of what a step runs, 16 hexadecimal digits: its code and the libraries' versions."""
    digest = hashlib.sha256("\n".join(library_versions(step)).encode())
    for path in code_files(step):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def library_versions(step: Step) -> list[str]:
    """Returns the interpreter and the libraries that decide a step's results, as `name==version`."""
    installed = [f"python=={sys.version_info.major}.{sys.version_info.minor}"]
    for name in LIBRARIES[step.image]:
        try:
            installed.append(f"{name}=={version(name)}")
        except PackageNotFoundError:  # whoever submits a step need not be able to run it
            continue
    return installed


def code_files(step: Step) -> list[Path]:
    """Returns the sorted files of a step's room, its harness, and all tumorflow modules that these import."""
    room = PACKAGE / step.room
    files = {path for path in room.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    files |= _imported_modules([PACKAGE / "execution.py", *(path for path in files if path.suffix == ".py")])
    # a step is handed its parameters with every default filled in: their definition changes nothing by itself
    return sorted(files - {PACKAGE / "params.py", PACKAGE / "cluster.py"})


def _imported_modules(modules: Sequence[Path]) -> set[Path]:
    """Returns these files and all that they import of this package, however indirectly; each is read once."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        waiting.extend(_imports_of(path))
    return found


def _imports_of(path: Path) -> Iterator[Path]:
    """Yields the files of this package that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            package, *parts = name.split(".")
            if package != PACKAGE.name or not parts:
                continue
            target = PACKAGE.joinpath(*parts)
            if target.with_suffix(".py").is_file():
                yield target.with_suffix(".py")
            elif (target / "__init__.py").is_file():
                yield target / "__init__.py"


def hash_params(params: Mapping[str, Any]) -> str:
    """Returns the hash of settings, 16 hexadecimal digits; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]


def combine_params_hashes(lineage: Mapping[str, Any]) -> str:
    """Returns one hash for the parameters of all steps in a lineage."""
    return hash_params(
        {name: step["params_hash"] for name, step in lineage.items() if isinstance(step, Mapping)}
    )


def hash_content(folder: Path, without: Sequence[str] = ()) -> str:
    """Returns the SHA-256 over names and contents of a folder's files, its record left out.

    Args:
        folder: whose files.
        without: patterns of paths in it that are left out, too.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path == folder / RECORD or any(path.relative_to(folder).match(pattern) for pattern in without):
            continue
        digest.update(f"{path.relative_to(folder).as_posix()}\0{hash_file(path)}\0".encode())
    return digest.hexdigest()


def read_git_commit(folder: Path = PACKAGE) -> str:
    """Returns the commit that runs, with `-dirty` where files differ from it; empty where there is none.

    An image has no checkout, and carries it in TUMORFLOW_GIT_COMMIT.
    """
    baked = os.environ.get("TUMORFLOW_GIT_COMMIT", "")
    if baked:
        return baked
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],  # noqa: S607 - git of the user's PATH
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()
