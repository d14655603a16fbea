"""Writing that is whole or not there at all: write aside, then rename."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tumorflow.errors import SourceError


@contextmanager
def written_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder beside `folder` that replaces it when the block ends without an error.

    On an error, or when the process dies, `folder` is as it was before.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    aside.chmod(0o755)
    try:
        yield aside
        replace_folder(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def replace_folder(source: Path, target: Path) -> None:
    """Renames `source` to `target`; a former `target` is removed only after it was moved away."""
    if target.exists():
        former = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".former", dir=target.parent))
        target.replace(former / target.name)
        source.replace(target)
        shutil.rmtree(former)
    else:
        source.replace(target)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically."""
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """Writes `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Writes `content` to `path` atomically, as indented JSON; not-a-number is refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        SourceError: the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SourceError(
            f"An artifact holds readable JSON at '{path.name}'. Received: {type(error).__name__} "
            f"for {path}. Run the step that writes it again."
        ) from error


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file's content as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
