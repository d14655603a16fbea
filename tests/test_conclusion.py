import json

import pytest

from tumorflow import conclusion, tracking
from tumorflow.chain import STEPS
from tumorflow.errors import DataError
from tumorflow.files import read_json
from tumorflow.tracker import RegisteredVersion
from tumorflow.tracking.connection import connect, experiment_id


def step_entry(name):
    return {
        "seconds": 1.5,
        "peak_memory_mb": 100.0,
        "git_commit": "c0ffee",
        "code_hash": f"code-{name}",
        "params_hash": f"params-{name}",
        "content_hash": f"content-{name}",
        "seed": 7,
        "uri": f"s3://store/{name}",
    }


def release_text(decision="accepted"):
    steps = {step.name: step_entry(step.name) for step in STEPS}
    return json.dumps(
        {
            "decision": decision,
            "rules": [{"name": "macro_f1", "passed": decision == "accepted"}],
            "not_judged": [],
            "model": {"name": "tiny", "version": "1", "aliases": [], "run_id": "r"},
            "uri": "s3://store/release",
            "metrics": {"macro_f1": {"value": 0.5, "low": 0.4, "high": 0.6}, "empty": {"value": None}},
            "measured": {"seed": 7},
            "groups": {"train": {"normal": 3}},
            "slices": {"train": {"normal": 9}},
            "groups_from": "patient",
            "variants": ["model_float32"],
            "lineage": {"data_hash": "d", **{name: {"params_hash": name} for name in steps}},
            "steps": steps,
        }
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def job(store, monkeypatch, request):
    """A job of its own in a sqlite store."""
    monkeypatch.chdir(store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("TUMORFLOW_JOB", request.node.name)
    return request.node.name


def parent_of(job):
    client = connect()
    runs = client.search_runs([experiment_id(client)], f"tags.`tumorflow.job` = '{job}'")
    return next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)


def test_a_summary_is_made_from_the_release_alone():
    current = RegisteredVersion("tiny", "1", aliases=("candidate",), run_id="r")
    told = conclusion.summarise(json.loads(release_text()), ["train", "evaluate", "export"], current)
    assert told["data_hash"] == "d"
    assert told["decision"]["verdict"] == "accepted"
    assert told["model"]["aliases"] == ["candidate"]
    assert told["registered"]
    assert [step["name"] for step in told["steps"] if step["cached"]] == ["ingest", "validate", "preprocess"]
    assert told["artifacts"]["report"] == "s3://store/evaluate/report.html"
    assert told["artifacts"]["model_float32"] == "s3://store/release/tflite/model_float32.tflite"
    assert told["peak_memory_mb"] == 100.0
    assert "not for clinical decisions" in told["notice"]


def test_a_version_that_the_registry_lost_is_told():
    told = conclusion.summarise(json.loads(release_text()), [], None)
    assert not told["registered"]
    assert told["model"]["aliases"] == []


def test_a_concluded_run_is_finished_in_mlflow_with_its_summary(job, tmp_path, capsys):
    with tracking.track_step("train", job, {}):
        pass
    conclusion.conclude(release_text("rejected"), str(tmp_path / "summary"))
    told = read_json(tmp_path / "summary" / "summary.json")
    assert tracking.fetch_summary(job) == told
    assert [step["name"] for step in told["steps"] if not step["cached"]] == ["train"]
    parent = parent_of(job)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"macro_f1": 0.5}
    assert parent.data.tags["tumorflow.decision"] == "rejected"
    assert f"summary written to {tmp_path}/summary/summary.json" in capsys.readouterr().out
    for state in ("SUCCEEDED", "COMPLETE", "CACHED", "a word of a later Kubeflow"):
        conclusion.finish(state)
        assert parent_of(job).info.status == "FINISHED"
        assert tracking.fetch_summary(job) == told


def fail_in(job):
    with tracking.track_step("preprocess", job, {}):
        raise DataError("too few patients")


def test_a_failed_run_ends_in_mlflow_with_the_reason_of_its_step(job):
    with pytest.raises(DataError):
        fail_in(job)
    conclusion.finish("FAILED")
    parent = parent_of(job)
    assert parent.info.status == "FAILED"
    assert parent.data.tags["tumorflow.error"] == "too few patients"
    assert tracking.fetch_summary(job)["error"]["message"] == "too few patients"


def test_a_run_whose_step_vanished_ends_too(job):
    conclusion.finish("FAILED")
    assert parent_of(job).info.status == "FAILED"
    assert "without a reason" in tracking.fetch_summary(job)["error"]["message"]


def test_a_run_that_trains_nothing_says_why(job, tmp_path):
    (tmp_path / "decision").mkdir()
    reasons = {"message": "Nothing new.", "data_hash": "d"}
    (tmp_path / "decision" / "decision.json").write_text(json.dumps(reasons))
    conclusion.halt(str(tmp_path / "decision"), str(tmp_path / "summary"))
    told = tracking.fetch_summary(job)
    assert told["decision"]["verdict"] == "halted"
    assert told["retraining"] == reasons
    assert parent_of(job).info.status == "FINISHED"


def test_a_run_without_a_name_is_refused(monkeypatch, capsys):
    monkeypatch.delenv("TUMORFLOW_JOB", raising=False)
    with pytest.raises(SystemExit) as ended:
        conclusion.finish("FAILED")
    assert ended.value.code == 2
    assert "TUMORFLOW_JOB" in capsys.readouterr().out
