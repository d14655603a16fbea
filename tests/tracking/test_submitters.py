"""Who submitted a pipeline run, as its parent in MLflow says it."""

import pytest

from tumorflow import tracking
from tumorflow.tracking.connection import connect, experiment_id
from tumorflow.tracking.jobs import SUBMITTED_BY_TAG, find_parent


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


def signature_of(job: str) -> str | None:
    client = connect()
    parent = find_parent(client, experiment_id(client), job)
    return client.get_run(parent).data.tags.get(SUBMITTED_BY_TAG) if parent else None


def test_the_first_account_that_signs_a_job_is_its_submitter(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    assert tracking.sign_job("job-1") == "ann"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "rob")
    tracking.sign_job("job-1")
    assert signature_of("job-1") == "ann"


def test_without_an_account_nothing_is_signed(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    assert tracking.sign_job("job-2") == ""
    assert signature_of("job-2") is None
