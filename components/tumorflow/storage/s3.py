"""The thin adapter to S3, whoever speaks it: AWS, SeaweedFS, MinIO, Swift.

Where it is and who asks comes from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …), as boto3 reads
it. Keys of objects may hold patients' names: they are counted in messages, never repeated.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tumorflow.errors import SourceError, TumorflowError, UnavailableError, UsageError
from tumorflow.storage.addresses import S3Prefix
from tumorflow.storage.names import refuse_unsafe
from tumorflow.storage.patience import persist
from tumorflow.storage.transfers import TRANSFERS, fetch_all

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

CHUNK_BYTES = 2**20
PAGE_KEYS = 1000  # the most that S3 lists at once
LISTING = "s3-"
"""What a version begins with that was made from a listing alone."""


@dataclass(frozen=True, order=True)
class StoredObject:
    """An object below a prefix; `relative` is its key without the prefix."""

    relative: str
    size: int
    etag: str


def connect() -> "BaseClient":
    """Returns a client of the store that the environment names; nothing is asked yet.

    Raises:
        UsageError: AWS_ENDPOINT_URL or another setting is no such thing.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    settings = Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=TRANSFERS,
        # stores beside AWS do not all know its newer checksums; sizes and ETags are compared here
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return boto3.session.Session().client("s3", config=settings)
    except (BotoCoreError, ValueError) as error:
        raise UsageError(
            "An S3 source is reached as the AWS_* variables say. Received: settings that boto3 refuses "
            f"({type(error).__name__}). Check AWS_ENDPOINT_URL, AWS_PROFILE, the region and both keys."
        ) from error


def list_objects(client: "BaseClient", address: S3Prefix, patience: float) -> list[StoredObject]:
    """Returns all objects below the prefix, sorted by key; empty ones that stand for folders are left out.

    Raises:
        SourceError: there is no such bucket, no permission, or nothing below the prefix.
        UnavailableError: the store has been away for longer than `patience` seconds.
    """
    objects: list[StoredObject] = []
    arguments: dict[str, Any] = {"Bucket": address.bucket, "Prefix": address.key_start, "MaxKeys": PAGE_KEYS}
    while True:

        def ask() -> dict[str, Any]:
            with explained(address.bucket):
                page: dict[str, Any] = client.list_objects_v2(**arguments)
                return page

        page = persist(ask, patience)
        for entry in page.get("Contents", ()):
            relative = entry["Key"].removeprefix(address.key_start)
            if entry["Size"] or not (relative.endswith("/") or not relative):
                objects.append(StoredObject(relative, entry["Size"], entry["ETag"]))
        if not page.get("IsTruncated"):
            break
        arguments["ContinuationToken"] = page["NextContinuationToken"]
    if not objects:
        raise SourceError(
            f"An S3 source holds objects. Received: none below the prefix in bucket {address.bucket!r}. "
            "Check the prefix: it names a whole folder, not the beginning of a name."
        )
    return sorted(objects)


def hash_listing(objects: Sequence[StoredObject]) -> str:
    """Returns a version that changes with any object: `s3-` and the SHA-256 of names, sizes and ETags."""
    digest = hashlib.sha256()
    for entry in sorted(objects):
        digest.update(f"{entry.relative}\0{entry.size}\0{entry.etag.strip(chr(34))}\0".encode())
    return LISTING + digest.hexdigest()


def download(
    client: "BaseClient", address: S3Prefix, objects: Sequence[StoredObject], folder: Path, patience: float
) -> None:
    """Writes the objects below `folder`, as long as they are those that were listed.

    Memory holds one chunk for each of a few transfers, whatever the objects' sizes.

    Raises:
        SourceError: a key is no safe name for a file, or an object changed after it was listed.
        UnavailableError: the store has been away for longer than `patience` seconds.
    """
    refuse_unsafe([entry.relative for entry in objects])

    def fetch(entry: StoredObject) -> None:
        target = folder / entry.relative
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            _fetch(client, address, entry, file, patience)

    fetch_all(objects, fetch)


def _fetch(
    client: "BaseClient", address: S3Prefix, entry: StoredObject, file: BinaryIO, patience: float
) -> None:
    """Writes one object, going on where a broken connection left it."""
    received = 0

    def fetch_some() -> None:
        nonlocal received
        before = received
        try:
            with explained(address.bucket):
                reply = client.get_object(
                    Bucket=address.bucket,
                    Key=address.key_start + entry.relative,
                    IfMatch=entry.etag,
                    **({"Range": f"bytes={received}-"} if received else {}),
                )
                with closing(reply["Body"]) as body:
                    for chunk in body.iter_chunks(CHUNK_BYTES):
                        file.write(chunk)
                        received += len(chunk)
        except UnavailableError:
            if received == before:
                raise

    while received < entry.size:
        before = received
        persist(fetch_some, patience)
        if received == before:
            raise _changed()
    if received != entry.size:
        raise _changed()


def _changed() -> SourceError:
    return SourceError(
        "The objects of an S3 source stay as they are while they are read. Received: one that changed or "
        "vanished after it was listed. Run again when nothing writes to the prefix."
    )


@contextmanager
def explained(bucket: str) -> Iterator[None]:
    """Turns boto3's errors in the block into one message, without keys and without its own text.

    Raises:
        UnavailableError: what may pass: no connection, or a server that says that it is at fault.
        SourceError: what stays: no bucket, no permission, a changed object.
    """
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        raise _explain_refusal(error, bucket) from error
    except (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError) as error:
        raise _away(bucket, type(error).__name__) from error
    except exceptions.BotoCoreError as error:
        raise SourceError(
            f"The store of bucket {bucket!r} is asked with valid credentials. Received: "
            f"{type(error).__name__} from boto3. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role."
        ) from error


def _away(bucket: str, reason: str) -> UnavailableError:
    return UnavailableError(
        f"The store of bucket {bucket!r} answers. Received: {reason}, again and again. "
        "Check AWS_ENDPOINT_URL and the store, and run again."
    )


PASSING = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling"})


def _explain_refusal(error: "ClientError", bucket: str) -> TumorflowError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    code = code if code.isalnum() else "an error without a code"
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status >= 500 or status == 429 or code in PASSING:
        return _away(bucket, f"{code} ({status})")
    if code == "NoSuchBucket":
        return SourceError(
            f"An S3 source names a bucket that exists. Received: {bucket!r}, which the store does not know. "
            "Check the name and AWS_ENDPOINT_URL."
        )
    if status in (404, 412):
        return _changed()
    return SourceError(
        f"The bucket {bucket!r} may be listed and read. Received: {code} ({status}). "
        "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, what they permit, and the region."
    )
