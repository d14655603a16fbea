"""Which data a revision of a DVC repository names.

The repository may be a mounted folder that nobody may write to, with another owner, and without git
(`core.no_scm`). So it is only ever read: from the revision come two files, the pointer (`data.dvc`) and
DVC's settings.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import yaml

from tumorflow.errors import SourceError, UnavailableError
from tumorflow.storage.addresses import DvcRevision
from tumorflow.storage.patience import persist

if TYPE_CHECKING:
    from dulwich.objects import Commit
    from dulwich.repo import Repo

SETTINGS = ".dvc/config"
REFUSALS = frozenset({"AuthError", "HTTPUnauthorized", "NotGitRepository", "PermissionDenied"})
MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Pointer:
    """What a `.dvc` file says of one folder."""

    data_hash: str
    """DVC's MD5 of its content, without `.dir`."""
    remote: str
    """The name of the remote that holds it; empty: the default one."""
    before_dvc_3: bool
    """Whether a former DVC wrote it, which laid its stores out otherwise."""


@dataclass(frozen=True)
class Pinned:
    """A revision that cannot move: its commit is full, or empty where the files of a folder count."""

    address: DvcRevision
    pointer: Pointer
    settings: str
    """The text of DVC's settings there."""


def read_pointer(content: str, name: str) -> Pointer:
    """Returns what the text of a `.dvc` file says; `name` is for messages.

    Raises:
        SourceError: it is empty, or no pointer to a folder.
    """
    try:
        output = yaml.safe_load(content)["outs"][0]
        promised = str(output["md5"]).removesuffix(".dir")
        if not MD5.fullmatch(promised):
            raise ValueError("no MD5")
        return Pointer(promised, str(output.get("remote", "")), output.get("hash") != "md5")
    except (ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise SourceError(
            f"A .dvc file names the version of one folder. Received: {name}, "
            f"{'which is not of that form' if content else 'which is not there'}. "
            f"Write it with `dvc add {name.removesuffix('.dvc')}`, or name another path: REPO@REV:PATH."
        ) from error


def pin(address: DvcRevision, patience: float) -> Pinned:
    """Returns what a revision names now. No data are read.

    Raises:
        SourceError: there is no such repository, revision or `.dvc` file.
        UnavailableError: the repository's server has been away for longer than `patience` seconds.
    """
    pointer, name = f"{address.path}.dvc", f"{PurePosixPath(address.path).name}.dvc"
    if not address.revision:
        root = Path(address.repository)
        return Pinned(address, read_pointer(_read(root / pointer), name), _read(root / SETTINGS))
    with _opened(address, patience) as repository:
        commit = _find_commit(repository, address)
        found = read_pointer(_read_committed(repository, commit, pointer), name)
        pinned = DvcRevision(address.repository, commit.id.decode(), address.path)
        return Pinned(pinned, found, _read_committed(repository, commit, SETTINGS))


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _read_committed(repository: "Repo", commit: "Commit", path: str) -> str:
    from dulwich.object_store import tree_lookup_path

    try:
        _, blob = tree_lookup_path(repository.get_object, commit.tree, path.encode())
    except (KeyError, NotADirectoryError):
        return ""
    content: bytes = repository.get_object(blob).as_raw_string()
    return content.decode(errors="replace")


@contextmanager
def _opened(address: DvcRevision, patience: float) -> Iterator["Repo"]:
    """Yields the git repository: the folder itself, or a bare clone that goes away afterwards.

    Dulwich reads it: it needs no git program, which the image lacks, and does not mind another owner.
    """
    from dulwich.errors import NotGitRepository
    from dulwich.repo import Repo

    if address.is_url:
        with TemporaryDirectory(prefix="tumorflow-git-", ignore_cleanup_errors=True) as scratch:
            clone = Path(scratch) / "clone"
            persist(lambda: _clone(address.repository, clone), patience)
            with Repo(str(clone)) as repository:
                yield repository
        return
    try:
        repository = Repo(address.repository)
    except NotGitRepository as error:
        raise SourceError(
            "REPO@REV names a git repository. Received: a folder without git. For the data that its .dvc "
            "file names now leave the revision out (REPO@); for a folder of data leave out the @, too."
        ) from error
    with repository:
        yield repository


def _clone(url: str, folder: Path) -> None:
    from scmrepo.exceptions import SCMError
    from scmrepo.git import Git

    shutil.rmtree(folder, ignore_errors=True)
    os.environ.setdefault(
        "USER", "tumorflow"
    )  # the clone's log wants a name, which a pod's user may not have
    try:
        Git.clone(url, str(folder), bare=True).close()
    except SCMError as error:
        reasons = list(_causes(error))
        for reason in reasons:
            if isinstance(reason, OSError) and reason.errno in (errno.ENOSPC, errno.EDQUOT):
                raise reason from error
        if {type(reason).__name__ for reason in reasons} & REFUSALS:
            raise SourceError(
                "REPO in REPO@REV is a git repository that may be read. Received: a server that does not "
                "know it, or refuses. Check the URL and the credentials that git finds here."
            ) from error
        raise UnavailableError(
            f"The git server of REPO@REV answers. Received: {type(reasons[-1]).__name__}, again and again. "
            "Check the URL and the network, and run again."
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _find_commit(repository: "Repo", address: DvcRevision) -> "Commit":
    from dulwich.objectspec import parse_commit

    branch = [f"refs/remotes/origin/{address.revision}"] if address.is_url else []  # as a clone calls it
    for name in (*branch, address.revision):
        try:
            commit: Commit = parse_commit(repository, name)
            return commit
        except (KeyError, ValueError):
            continue
    raise SourceError(
        "REV in REPO@REV is a commit, tag or branch of the repository. Received: one that is not there. "
        "Check it with git log or git ls-remote; a commit must be pushed."
    )
