#!/usr/bin/env bash
# put_source.sh FOLDER NAME: copies a folder to s3://tumorflow-data/NAME in the store of the overlay local. It goes
# through MLflow's pod, which has the keys: this machine needs none.
set -euo pipefail
[[ $# == 2 && -d $1 ]] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }

tar --create --dereference --directory "$1" --file - . | kubectl --namespace tumorflow exec --stdin deploy/tumorflow-mlflow \
  --container mlflow -- python -c '
import os, sys, tarfile
import boto3
store, files = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"]), 0
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
    for member in archive:
        if member.isfile():
            key = sys.argv[1] + "/" + member.name.removeprefix("./")
            store.put_object(Bucket="tumorflow-data", Key=key, Body=archive.extractfile(member).read())
            files += 1
print(f"{files} files in s3://tumorflow-data/{sys.argv[1]}")
' "$2"
