"""Creates the buckets that its arguments name where they are missing; waits for a store that is starting."""

import os
import sys
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError

DEADLINE_SECONDS = 120.0


def main() -> None:
    """Creates the buckets."""
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            existing = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
            for bucket in sorted({*sys.argv[1:]} - existing):
                store.create_bucket(Bucket=bucket)
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"The store must answer within {DEADLINE_SECONDS:.0f} s. Received: {error}")
            time.sleep(2)
        else:
            return


if __name__ == "__main__":
    main()
