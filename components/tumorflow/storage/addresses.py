"""What a source's text means: a folder, a prefix in S3, or a revision of a DVC repository."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tumorflow.errors import UsageError

FORMS = "a folder, s3://BUCKET/PREFIX, or REPO@REV[:PATH] for data kept by DVC"

_S3 = re.compile(r"s3://(?P<bucket>[\w.-]{1,255})(?:/(?P<prefix>.*))?", re.ASCII)
# the `@` before a revision comes after the host's name: one before it ends a user's name
_REVISION = re.compile(
    r"(?P<repository>(?:https?|ssh|git|file)://[^/]*/.+|(?!\w+://).+)@(?P<revision>[^@:]*)(?::(?P<path>[^@:]+))?"
)
_WITH_USER = re.compile(r"https?://[^/]*@")
_SCP = re.compile(r"[\w.-]+@[\w.-]+:")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


@dataclass(frozen=True)
class Folder:
    """A folder on this machine, or mounted into the pod."""

    path: Path


@dataclass(frozen=True)
class S3Prefix:
    """All objects of a bucket whose key begins with `prefix` and a slash; with an empty prefix, all."""

    bucket: str
    prefix: str

    @property
    def key_start(self) -> str:
        """What every key begins with."""
        return f"{self.prefix}/" if self.prefix else ""


@dataclass(frozen=True)
class DvcRevision:
    """A folder that DVC keeps: at a git `revision`, or, where that is empty, as a project's files say."""

    repository: str
    revision: str
    path: str

    @property
    def is_url(self) -> bool:
        """Whether the repository is reached through git's own transports, not as a folder."""
        return "://" in self.repository or bool(_SCP.match(self.repository))

    def __str__(self) -> str:
        path = "" if self.path == "data" else f":{self.path}"
        return f"{self.repository}@{self.revision}{path}"


Address = Folder | S3Prefix | DvcRevision


def parse(source: str) -> Address:
    """Returns what `source` names; nothing is read but whether a path exists.

    Raises:
        UsageError: it is none of the forms. The text is not repeated: it may hold a password.
    """
    if not source.strip() or not source.isprintable():
        raise _refusal("an empty text or one with control characters", "Name the source.")
    if source.startswith("s3://"):
        found = _S3.fullmatch(source)
        if not found:
            raise _refusal("s3:// without the name of a bucket", "Credentials belong into AWS_* variables.")
        return S3Prefix(found["bucket"], (found["prefix"] or "").strip("/"))
    path = Path(source).expanduser()
    if path.exists():
        return Folder(path)
    if _WITH_USER.match(source):
        raise _refusal("a git URL that holds a user or a token", "Let git's own settings know them.")
    revision = _REVISION.fullmatch(source)
    if revision:
        return _revision(revision["repository"], revision["revision"], revision["path"] or "data")
    if "://" in source:
        raise _refusal("an address of another kind", "A git URL is followed by @ and a revision.")
    if _WINDOWS.match(source):
        raise _refusal("a Windows path that is not here", "Mount the folder, and give its path there.")
    return Folder(path)


def _revision(repository: str, revision: str, path: str) -> DvcRevision:
    address = DvcRevision(repository, revision, path.rstrip("/"))
    parts = PurePosixPath(address.path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise _refusal("a path that leaves the repository", "Give it relative to the repository's root.")
    if address.is_url:
        if not revision:
            raise _refusal("a git URL without a revision", "Add a commit, tag or branch behind the @.")
        return address
    folder = Path(repository).expanduser()
    if not folder.is_dir():
        raise _refusal(
            "text with an @ before which there is neither a git URL nor a folder of this machine",
            "Check the path; a git URL is followed by @ and a revision.",
        )
    return DvcRevision(str(folder.absolute()), revision, address.path)


def _refusal(received: str, remedy: str) -> UsageError:
    return UsageError(f"A source is {FORMS}. Received: {received}. {remedy}")
