"""A source as a folder of this machine, for as long as it is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tumorflow.errors import SourceError
from tumorflow.storage import dvc_stores, revisions, s3
from tumorflow.storage.addresses import Folder, S3Prefix, parse
from tumorflow.storage.content import hash_folder, list_entries
from tumorflow.storage.patience import patience_s


@dataclass(frozen=True)
class Reading:
    """A folder with a source's files, and the MD5 that DVC gives its content."""

    folder: Path
    data_hash: str


@contextmanager
def fetched(source: str, promised: str = "") -> Iterator[Reading]:
    """Yields the source as a folder that is whole; what was fetched for it goes away afterwards.

    Args:
        source: a folder, `s3://BUCKET/PREFIX` or `REPO@REV[:PATH]`.
        promised: the version that was resolved when the run was submitted; empty: any.

    Raises:
        UsageError: the text is no source.
        SourceError: what it names is missing, refused, not what was promised, or changes meanwhile.
        UnavailableError: a store or server is away for longer than it may be.
    """
    address = parse(source)
    if isinstance(address, Folder):
        with _unchanged(address.path, promised) as reading:
            yield reading
        return
    with TemporaryDirectory(prefix="tumorflow-source-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / "source"
        folder.mkdir()
        if isinstance(address, S3Prefix):
            client = s3.connect()
            objects = s3.list_objects(client, address, patience_s())
            if promised.startswith(s3.LISTING):
                require(promised, s3.hash_listing(objects))
                promised = ""
            s3.download(client, address, objects, folder, patience_s())
        else:
            pinned = revisions.pin(address, patience_s())
            dvc_stores.download(pinned, folder, Path(scratch), patience_s())
            promised = promised or pinned.pointer.data_hash
        with _unchanged(folder, promised) as reading:
            yield reading


@contextmanager
def _unchanged(folder: Path, promised: str) -> Iterator[Reading]:
    entries = list_entries(folder)
    content = hash_folder(folder, entries)
    require(promised, content)
    yield Reading(folder, content)
    if list_entries(folder) != entries:
        raise SourceError(
            "The source stays as it is while it is read. Received: a folder whose files changed meanwhile. "
            "Run again when nothing writes to it."
        )


def require(promised: str, found: str) -> None:
    """Stops a step whose data are not those that the run was submitted for; without a promise all are.

    Raises:
        SourceError: they are others.
    """
    if promised and promised != found:
        raise SourceError(
            f"The data are those that the run was started for, version {promised}. Received: {found}: "
            "the source changed between submission and reading, or is damaged. Start a new run."
        )
