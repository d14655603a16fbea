"""Which version of the data a source has now, told without reading the data."""

from dataclasses import dataclass
from pathlib import Path

from tumorflow.storage import revisions, s3
from tumorflow.storage.addresses import Folder, S3Prefix, parse
from tumorflow.storage.content import hash_source
from tumorflow.storage.patience import patience_s


@dataclass(frozen=True)
class ResolvedSource:
    """A source with a revision that cannot move, and the version of its data.

    `data_hash` is DVC's MD5 of the content; for S3, where that is unknown before all is read, `s3-` and
    a hash of the listing.
    """

    source: str
    data_hash: str


def resolve(source: str, state_folder: Path) -> ResolvedSource:
    """Returns what `source` names at this moment.

    A folder is read where it has changed since the last call (`state_folder` remembers); of a DVC revision
    only the `.dvc` file is read, of S3 only the listing.

    Raises:
        UsageError: the text is no source.
        SourceError: what it names does not exist or may not be read.
        UnavailableError: a store or server is away.
    """
    address = parse(source)
    if isinstance(address, Folder):
        return ResolvedSource(str(address.path.absolute()), hash_source(address.path, state_folder))
    if isinstance(address, S3Prefix):
        listing = s3.list_objects(s3.connect(), address, patience_s())
        return ResolvedSource(source, s3.hash_listing(listing))
    pinned = revisions.pin(address, patience_s())
    return ResolvedSource(str(pinned.address), pinned.pointer.data_hash)
