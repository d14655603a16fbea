"""Where files wait for their turn: a folder that ends with the service, or with its next start."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "tumorflow-serve-"
LOCK = "in-use"
NEW_S = 60.0
"""A folder that is as new may be one whose service has not locked it yet."""


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yields a folder for files that nobody is to keep; those of services that were killed are removed first.

    Args:
        parent: in which it is made; none: the system's for temporary files.
    """
    parent = parent or Path(tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        _remove_left(left)
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent) as name,
        (Path(name) / LOCK).open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = Path(name) / "files"
        files.mkdir()
        yield files


def _remove_left(folder: Path) -> None:
    """Removes a folder whose service lives no more: its lock went with it."""
    try:
        if time.time() - folder.stat().st_mtime < NEW_S:
            return
        with (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # somebody else's, or in use
