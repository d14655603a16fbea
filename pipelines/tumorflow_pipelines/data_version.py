"""The version of the data: DVC's own content hash of a folder."""

import sqlite3
from contextlib import closing
from pathlib import Path

import yaml

from tumorflow.errors import SourceError, UnavailableError


def hash_source(source: Path, state_folder: Path) -> str:
    """Returns the MD5 that DVC gives a folder's content, as it stands in a `.dvc` file without its `.dir`.

    Hashes of unchanged files come from a database in `state_folder`: a second call reads nothing.

    Raises:
        SourceError: the folder is missing or a file in it cannot be read.
        UnavailableError: the state database cannot be written.
    """
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.state import State
    from dvc_objects.fs.local import LocalFileSystem

    if not source.is_dir():
        raise SourceError(
            f"--source names a folder with DICOM files or images. Received: {source}, which is no folder. "
            "Check the path."
        )
    files = LocalFileSystem()
    state_folder.mkdir(parents=True, exist_ok=True)
    try:
        with closing(State(root_dir="/", tmp_dir=str(state_folder))) as state:
            store = HashFileDB(files, str(state_folder / "store"), state=state)
            _, _, tree = build(store, str(source.absolute()), files, "md5", dry_run=True)
    except sqlite3.Error as error:
        raise UnavailableError(
            f"Hashes of files are kept in a small database. Received: {type(error).__name__} for "
            f"{state_folder}. Free space on the disk, or delete the folder if it is broken."
        ) from error
    except OSError as error:
        raise SourceError(
            f"Every file of the source can be read. Received: {type(error).__name__} below {source}. "
            "Check permissions and links."
        ) from error
    return str(tree.hash_info.value).removesuffix(".dir")


def committed_hash(pointer: Path) -> str:
    """Returns the hash that a `.dvc` file promises, without its `.dir`; empty where there is no such file.

    Raises:
        SourceError: the file is no such promise.
    """
    if not pointer.is_file():
        return ""
    try:
        entry = yaml.safe_load(pointer.read_text())["outs"][0]
        return str(entry["md5"]).removesuffix(".dir")
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError) as error:
        raise SourceError(
            f"A .dvc file names the version of one folder. Received: {pointer}, which is not of that form "
            f"({type(error).__name__}). Write it anew: dvc add {pointer.with_suffix('')}"
        ) from error
