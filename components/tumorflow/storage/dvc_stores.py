"""The thin adapter to DVC's stores: the files of a pinned revision, from a cache or a remote.

DVC itself would write locks and databases into the project. Its file systems alone are used here: they know
every kind of remote and its settings.
"""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumorflow.errors import SourceError, UnavailableError
from tumorflow.storage.names import refuse_unsafe
from tumorflow.storage.patience import persist
from tumorflow.storage.revisions import MD5, SETTINGS, Pinned, Pointer
from tumorflow.storage.transfers import fetch_all

LOCAL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG})


@dataclass(frozen=True)
class Store:
    """A place where DVC keeps files by their hash: a cache folder or a remote."""

    files: Any
    """DVC's file system for it."""
    root: str

    @property
    def is_local(self) -> bool:
        """Whether its files are this machine's."""
        return bool(self.files.protocol == "local")

    def path(self, oid: str) -> str:
        """Returns where the object with this hash lies."""
        return str(self.files.join(self.root, oid[:2], oid[2:]))


def download(pinned: Pinned, folder: Path, scratch: Path, patience: float) -> None:
    """Writes the files of a pinned revision below `folder`; those on this machine's disks are linked.

    Whether they are the right ones is for whoever hashes the folder. `scratch` is for DVC's settings.

    Raises:
        SourceError: DVC's settings are wrong, or the store does not hold the data, or may not be read.
        UnavailableError: the store has been away for longer than `patience` seconds.
    """
    store, listed = persist(lambda: _find(pinned, scratch), patience)
    refuse_unsafe([name for name, _ in listed])

    def fetch(entry: tuple[str, str]) -> None:
        name, oid = entry
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        persist(lambda: _fetch(store, oid, target), patience)

    fetch_all(listed, fetch)


def _find(pinned: Pinned, scratch: Path) -> tuple[Store, list[tuple[str, str]]]:
    """Returns the store that holds the data, rather the cache than the remote, and their names and hashes."""
    settings = _read_settings(pinned, scratch)
    cache = _cache(pinned, settings)
    if cache.files.exists(cache.path(f"{pinned.pointer.data_hash}.dir")):
        listed = _list(cache, pinned.pointer)
        if all(cache.files.exists(cache.path(oid)) for _, oid in listed):
            return cache, listed
    remote = _remote(pinned, settings)
    return remote, _list(remote, pinned.pointer)


def _read_settings(pinned: Pinned, scratch: Path) -> Any:
    """Returns DVC's settings: of a folder those in it, since paths and secrets there are for this machine."""
    from dvc.config import Config, ConfigError

    folder = Path(pinned.address.repository) / ".dvc"
    if not folder.is_dir():
        folder = scratch / ".dvc"
        folder.mkdir(exist_ok=True)
        (scratch / SETTINGS).write_text(pinned.settings)
    try:
        return Config(str(folder))
    except ConfigError as error:
        raise _bad_settings(error) from error


def _cache(pinned: Pinned, settings: Any) -> Store:
    from dvc.fs import LocalFileSystem

    folder = settings["cache"].get("dir") or Path(pinned.address.repository) / ".dvc" / "cache"
    return Store(LocalFileSystem(), str(Path(folder, *_layout(pinned.pointer))))


def _remote(pinned: Pinned, settings: Any) -> Store:
    from dvc.config import ConfigError
    from dvc.fs import get_cloud_fs

    name = pinned.pointer.remote or settings["core"].get("remote")
    if not name:
        raise SourceError(
            "DVC's settings name the store of the data. Received: none, and no cache that holds them all. "
            "Set it: dvc remote add --default NAME URL, commit, and dvc push."
        )
    try:
        kind, arguments, root = get_cloud_fs(settings, name=name)
        if arguments.get("version_aware") or arguments.get("worktree"):
            raise SourceError(
                "DVC's remote keeps files by their hash. Received: a remote that keeps them by name "
                "(version_aware or worktree). Give its URL itself as the source, if it is s3://."
            )
        files = kind(**arguments)
        return Store(files, str(files.join(root, *_layout(pinned.pointer))))
    except (ConfigError, ImportError, ValueError) as error:
        raise _bad_settings(error) from error


def _layout(pointer: Pointer) -> tuple[str, ...]:
    return () if pointer.before_dvc_3 else ("files", "md5")


def _bad_settings(error: Exception) -> SourceError:
    return SourceError(
        "DVC's settings (.dvc/config) name the store of the data. Received: settings that DVC refuses "
        f"({type(error).__name__}). Check core.remote and the remote's url; of DVC's plug-ins s3 is here."
    )


def _list(store: Store, pointer: Pointer) -> list[tuple[str, str]]:
    """Returns name and hash of every file in a folder that DVC keeps."""
    with _explained():
        content = store.files.cat_file(store.path(f"{pointer.data_hash}.dir"))
    try:
        listed = [(str(entry["relpath"]), str(entry["md5"])) for entry in json.loads(content)]
        if not all(MD5.fullmatch(oid) for _, oid in listed):  # it becomes a path
            raise ValueError("no MD5")
    except (ValueError, LookupError, TypeError) as error:
        raise SourceError(
            "DVC's store lists the files of a folder as JSON. Received: a list of another form. "
            "Push the data again: dvc push."
        ) from error
    return listed


def _fetch(store: Store, oid: str, target: Path) -> None:
    with _explained():
        if store.is_local:
            target.symlink_to(Path(store.path(oid)).resolve(strict=True))
        else:
            store.files.get_file(store.path(oid), str(target))


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what DVC's file systems raise in the block into one message.

    Raises:
        UnavailableError: what may pass.
        SourceError: what stays: data that were never pushed, no permission.
    """
    import botocore.exceptions

    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(
            "DVC's store holds the data of the revision. Received: a file that is not there, or no bucket. "
            "Push the data: dvc push; and check the remote's url and AWS_ENDPOINT_URL."
        ) from error
    except (PermissionError, botocore.exceptions.NoCredentialsError) as error:
        raise SourceError(
            "DVC's store may be read. Received: a refusal. Check its credentials: for S3 AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY, and what they permit."
        ) from error
    except (
        OSError,
        botocore.exceptions.BotoCoreError,
        botocore.exceptions.ClientError,
    ) as error:
        if isinstance(error, OSError) and error.errno in LOCAL_DISK:
            raise
        raise UnavailableError(
            f"The store of DVC's remote answers. Received: {type(error).__name__}, again and again. "
            "Check the remote's url, AWS_ENDPOINT_URL and the store, and run again."
        ) from error
