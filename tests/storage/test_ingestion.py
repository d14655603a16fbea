"""The ingestion step on every kind of source, and through a store that goes away and comes back."""

import shutil
import threading
import time

import pytest

from tumorflow.cli import main
from tumorflow.errors import SourceError
from tumorflow.execution import execute
from tumorflow.files import read_json
from tumorflow.params import IngestParams
from tumorflow.storage import hash_source, resolve

KEY = "8f3a1c5e7092b4d6f81e3a5c7d9b0f2e"

pytestmark = pytest.mark.usefixtures("away_from_home")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.setenv("TUMORFLOW_PSEUDONYM_KEY", KEY)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "data"
    assert main(["sample", "--output", str(folder), "--set", "sample.patients=6"]) == 0
    return folder


def test_the_same_data_are_the_same_dataset_whatever_they_come_from(cohort, bucket, scratch, tmp_path, run):
    project = tmp_path / "project"
    shutil.copytree(cohort, project / "data")
    bucket.put_folder(cohort, "cohorts/first")
    run("dvc init -q --no-scm", project)
    run("dvc add -q data", project)
    sources = {"folder": str(cohort), "s3": f"s3://{bucket.name}/cohorts/first", "dvc": f"{project}@"}
    records = {}
    for name, source in sources.items():
        promised = resolve(source, tmp_path / "state")
        arguments = ["--source", promised.source, "--data-hash", promised.data_hash]
        assert main(["ingest", *arguments, "--dataset", str(tmp_path / name)]) == 0
        records[name] = read_json(tmp_path / name / "record.json")
    assert len({record["content_hash"] for record in records.values()}) == 1
    expected = hash_source(cohort, tmp_path / "state")
    assert {record["lineage"]["data_hash"] for record in records.values()} == {expected}
    assert read_json(tmp_path / "s3" / "source.json")["data_hash"] == expected
    assert list(scratch.iterdir()) == []


def ingest(source, dataset, data_hash=""):
    execute(
        "ingest",
        params=IngestParams().model_dump_json(),
        inputs={},
        output=str(dataset),
        arguments={"source": source, "data_hash": data_hash, "key_id": ""},
    )
    return read_json(dataset / "record.json")


def test_a_store_stopped_in_the_middle_makes_no_difference(cohort, server, bucket, scratch, tmp_path):
    expected = ingest(str(cohort), tmp_path / "folder")
    bucket.put_folder(cohort, "data")
    stopped_at = []

    def interrupt():
        while sum(path.is_file() for path in scratch.rglob("source/**/*")) < 5:
            time.sleep(0.02)
        server.stop()
        stopped_at.append(sum(path.is_file() for path in scratch.rglob("source/**/*")))
        time.sleep(3)
        server.start()

    interruption = threading.Thread(target=interrupt, daemon=True)
    interruption.start()
    try:
        found = ingest(f"s3://{bucket.name}/data", tmp_path / "s3")
    finally:
        interruption.join(120)
    assert stopped_at[0] < sum(path.is_file() for path in cohort.rglob("*"))
    assert found["content_hash"] == expected["content_hash"]


def test_changed_data_leave_no_dataset(cohort, bucket, tmp_path):
    bucket.put_folder(cohort, "data")
    promised = resolve(f"s3://{bucket.name}/data", tmp_path / "state")
    bucket.put("data/late.dcm")
    with pytest.raises(SourceError, match="changed between submission and reading"):
        ingest(promised.source, tmp_path / "dataset", promised.data_hash)
    assert not (tmp_path / "dataset").exists()
