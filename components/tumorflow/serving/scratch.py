"""Where files wait for their turn: a folder that ends with the service, or with its next start."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "tumorflow-serve-"
LOCK = "in-use"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yields a folder for files that nobody is to keep; those of services that were killed are removed first.

    Args:
        parent: in which it is made; none: the system's for temporary files.
    """
    parent = parent or Path(tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        _remove_left(left)
    # it gets its name when it is locked: before, another service's start would take it for one that was left
    folder = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
    try:
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "files").mkdir()
            folder = folder.rename(parent / folder.name[1:])
            yield folder / "files"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(folder: Path) -> None:
    """Removes a folder whose service lives no more: its lock went with it."""
    try:
        with (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # in use, or somebody else's
