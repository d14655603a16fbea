"""Moves database dumps between a folder and the object store: `transfer_backup.py upload|download FILE`.

An object appears whole or not at all, so that no half of a backup is ever seen. `upload` keeps the newest
BACKUPS_KEPT backups below BACKUP_DESTINATION (s3://bucket/prefix) and never removes the one it has just made.
`download` fetches the newest, or the one that BACKUP names.
"""

import os
import sys
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

SUFFIX = ".dump"


def place() -> tuple[str, str]:
    """Returns bucket and prefix of the backups."""
    parts = urlsplit(os.environ["BACKUP_DESTINATION"])
    return parts.netloc, parts.path.strip("/")


def expired(keys: list[str], kept: int) -> list[str]:
    """Returns the keys of the backups beyond the newest `kept`; at least one is always kept."""
    backups = sorted(key for key in keys if key.endswith(SUFFIX))
    return backups[: -max(kept, 1)]


def backups(store: Any, bucket: str, prefix: str) -> list[str]:
    """Returns the keys of all backups, oldest first: their names are their times."""
    pages = store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/mlflow-")
    return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))


def upload(store: Any, file: str) -> None:
    """Stores the dump under the present time and drops the expired ones."""
    bucket, prefix = place()
    key = f"{prefix}/mlflow-{datetime.now(UTC):%Y%m%dT%H%M%SZ}{SUFFIX}"
    store.upload_file(file, bucket, key)
    stored, size = store.head_object(Bucket=bucket, Key=key)["ContentLength"], os.path.getsize(file)  # noqa: PTH202
    if stored != size:
        sys.exit(f"A stored backup has the size of the dump. Received: {stored} instead of {size} bytes.")
    for old in expired(backups(store, bucket, prefix), int(os.environ["BACKUPS_KEPT"])):
        store.delete_object(Bucket=bucket, Key=old)
    print(f"Stored s3://{bucket}/{key}, {size} bytes.")


def download(store: Any, file: str) -> None:
    """Fetches the newest backup, or the one that BACKUP names."""
    bucket, prefix = place()
    found = [key for key in backups(store, bucket, prefix) if os.environ.get("BACKUP", "") in key]
    if not found:
        sys.exit(f"A restore needs a backup. Received: none below s3://{bucket}/{prefix}.")
    store.download_file(bucket, found[-1], file)
    print(f"Fetched s3://{bucket}/{found[-1]}.")


def main() -> None:
    """Does what the first argument says with the file that the second names."""
    import boto3

    action = {"upload": upload, "download": download}[sys.argv[1]]
    action(boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None), sys.argv[2])


if __name__ == "__main__":
    main()
