"""The version of a folder: DVC's own hash of its content."""

import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tumorflow.errors import SourceError, UnavailableError

UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Entry:
    """One file below a folder as it stood: a change of its content changes size, time or inode."""

    relative: str
    size: int
    modified_ns: int
    inode: int
    readable: bool


def list_entries(folder: Path) -> list[Entry]:
    """Returns all files below `folder`, sorted by relative path; links are followed, loops end.

    Raises:
        SourceError: there is no such folder. Its path is not repeated: it may hold a patient's name.
    """
    if not folder.is_dir():
        raise SourceError(
            "The source is a folder of DICOM files or images. Received: a path with "
            f"{'a file' if folder.exists() else 'nothing'} at it. Check --source, and that it is mounted."
        )
    return sorted(_entries(folder), key=lambda entry: entry.relative)


def _entries(root: Path) -> Iterator[Entry]:
    entered: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        status = os.stat(folder)  # noqa: PTH116 - a Path for each of many folders costs
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        for name in files:
            path = f"{folder}/{name}"
            relative = os.path.relpath(path, root)
            try:
                found = os.stat(path)  # noqa: PTH116 - as above
            except OSError:  # a link to nothing
                yield Entry(relative, 0, 0, 0, False)
                continue
            readable = stat.S_ISREG(found.st_mode) and os.access(path, os.R_OK)
            yield Entry(relative, found.st_size, found.st_mtime_ns, found.st_ino, readable)


def hash_entries(entries: Sequence[Entry], md5_of: Callable[[Entry], str]) -> str:
    """Returns the MD5 that DVC gives a folder with these files, without its `.dir`.

    What cannot be read, and so cannot be added to DVC, counts by its name: it will be refused by name, too.
    """
    listed = [
        {"md5": md5_of(entry) if entry.readable else UNREADABLE, "relpath": entry.relative}
        for entry in entries
    ]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def hash_folder(folder: Path, entries: Sequence[Entry]) -> str:
    """Returns the MD5 that DVC gives a folder, without its `.dir`, after reading every file in it.

    Raises:
        SourceError: a file has become unreadable.
    """
    return hash_entries(entries, lambda entry: _md5(folder / entry.relative))


def hash_source(source: Path, state_folder: Path) -> str:
    """Returns what `hash_folder` does, reading only files that have changed since the last call.

    Hashes of unchanged files come from a small database in `state_folder`.

    Raises:
        SourceError: the folder is missing or a file in it cannot be read.
        UnavailableError: the database cannot be written.
    """
    entries = list_entries(source)
    root = source.absolute()
    known: dict[bytes, tuple[int, int, int, str]] = {}
    found: dict[bytes, tuple[int, int, int, str]] = {}

    def md5_of(entry: Entry) -> str:
        key = os.fsencode(root / entry.relative)
        stamp = (entry.size, entry.modified_ns, entry.inode)
        former = known.get(key)
        md5 = former[3] if former and former[:3] == stamp else _md5(root / entry.relative)
        found[key] = (*stamp, md5)
        return md5

    try:
        state_folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(state_folder / "files.db", timeout=60)) as database, database:
            database.execute(
                "create table if not exists files (path blob primary key, size, modified_ns, inode, md5)"
            )
            rows = database.execute("select path, size, modified_ns, inode, md5 from files")
            known = {path: (size, modified_ns, inode, md5) for path, size, modified_ns, inode, md5 in rows}
            content = hash_entries(entries, md5_of)
            database.executemany(
                "insert or replace into files values (?, ?, ?, ?, ?)",
                [(key, *row) for key, row in found.items() if known.get(key) != row],
            )
    except (sqlite3.Error, OSError) as error:
        raise UnavailableError(
            f"Hashes of files are kept in a small database. Received: {type(error).__name__} for "
            f"{state_folder}. Free space on the disk, or delete the folder if it is broken."
        ) from error
    return content


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise SourceError(
            f"A file of the source can be read to its end. Received: {type(error).__name__}. "
            "Check the disk, and that nothing writes to the source now."
        ) from error
