"""`tumorflow status` against a small Kubeflow."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tumorflow.cli import main
from tumorflow_pipelines.following import changes, step_states

SUBMIT = (
    *("submit", "--source", "s3://bucket/ct", "--data-hash", "0123", "--no-wait"),
    *("--set", "cluster.mlflow_tracking_uri=http://mlflow:5000"),
)


@pytest.fixture
def run_id(kubeflow, capsys):
    """A run that has just been submitted."""
    assert main([*SUBMIT, "--name", "first"]) == 0
    capsys.readouterr()
    (found,) = kubeflow.runs
    return found


def test_the_last_runs_are_listed_newest_first(kubeflow, run_id, capsys):
    kubeflow.frames = [("SUCCEEDED", {})]
    assert main(["status", run_id]) == 0
    for name in ("second", "third"):
        assert main([*SUBMIT, "--name", name]) == 0
    kubeflow.runs[list(kubeflow.runs)[2]].state = None
    capsys.readouterr()
    assert main(["status", "--count", "2"]) == 0
    first, second, third = kubeflow.runs
    assert capsys.readouterr().out.splitlines() == [
        f"{third}  pending  2026-01-02 03:06  third",
        f"{second}  pending  2026-01-02 03:05  second",
    ]
    assert main(["status"]) == 0
    assert f"{first}  succeeded  2026-01-02 03:04  first" in capsys.readouterr().out


def test_no_run_yet(kubeflow, capsys):
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "no runs yet\n"


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", None])
def test_a_run_under_way_shows_its_steps_and_no_end(kubeflow, run_id, capsys, state):
    kubeflow.frames = [(state, {"ingest": "SUCCEEDED", "validate": "RUNNING"})]
    assert main(["status", run_id]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"run: first, {(state or 'PENDING').lower()}, {kubeflow.url}/#/runs/details/")
    assert lines[1:] == ["ingest: done in 42.0 s", "validate …"]


@pytest.mark.parametrize(("release", "code"), [("export", 0), ("export-2", 3)])
def test_a_run_that_ended_gives_its_exit_code(kubeflow, run_id, capsys, release, code):
    kubeflow.frames = [("SUCCEEDED", {"ingest": "SUCCEEDED", release: "SUCCEEDED"})]
    assert main(["status", run_id]) == code
    assert "export: done" in capsys.readouterr().out


def test_a_run_that_brought_its_own_definition_tells_its_decision(kubeflow, run_id, capsys):
    run = kubeflow.runs[run_id]
    version = kubeflow.versions[run.pipeline_version_reference.pipeline_version_id]
    run.pipeline_spec, run.pipeline_version_reference = version.pipeline_spec, None
    kubeflow.frames = [("SUCCEEDED", {"export-2": "SUCCEEDED"})]
    assert main(["status", run_id]) == 3
    assert "decision: rejected" in capsys.readouterr().out


def test_a_run_whose_version_is_gone_succeeds_without_a_known_decision(kubeflow, run_id, capsys):
    kubeflow.versions.clear()
    kubeflow.frames = [("SUCCEEDED", {"export-2": "SUCCEEDED"})]
    assert main(["status", run_id]) == 0
    assert "decision: not known here" in capsys.readouterr().out


def test_a_failed_run_gives_1_and_where_its_logs_are(kubeflow, run_id, capsys):
    kubeflow.frames = [("FAILED", {"ingest": "FAILED"})]
    assert main(["status", run_id]) == 1
    assert f"ingest failed. The logs are at {kubeflow.url}/#/runs/details/{run_id}" in capsys.readouterr().err


def test_waiting_follows_to_the_end(kubeflow, run_id, capsys):
    kubeflow.frames = [("RUNNING", {"ingest": "RUNNING"}), ("SUCCEEDED", {"export": "SUCCEEDED"})]
    assert main(["status", run_id, "--wait"]) == 0
    assert capsys.readouterr().out.startswith("ingest …\nexport: done in 42.0 s\n")


def test_an_unknown_run_is_told(kubeflow, capsys):
    assert main(["status", "nobody"]) == 2
    assert "'nobody', unknown to" in capsys.readouterr().err


def test_an_address_with_a_path_is_kept(kubeflow, capsys):
    kubeflow.fail("GET", "/pipeline", status=404)
    assert main(["status", "--host", f"{kubeflow.url}/pipeline/"]) == 2
    assert kubeflow.requests == ["GET /pipeline/apis/v2beta1/healthz"]


def task(name, state, start, end=None, number=0):
    return SimpleNamespace(
        task_id=f"{name}{number}", display_name=name, state=state, start_time=start, end_time=end
    )


def test_parts_are_told_one_by_one_and_nothing_twice():
    begun, ended = datetime(2026, 1, 2, 3, 0, tzinfo=UTC), datetime(2026, 1, 2, 3, 1, 30, tzinfo=UTC)
    tasks = [
        task("prepare", "SUCCEEDED", begun, ended, number=1),
        task("prepare", "RUNNING", begun, datetime(1, 1, 1, tzinfo=UTC), number=2),
        task("for-loop-1", "RUNNING", begun),
        task("prepare-driver", "SUCCEEDED", begun, ended),
        task("ingest", "SUCCEEDED", datetime(2026, 1, 2, 2, 0, tzinfo=UTC), ended),
    ]
    states = step_states(SimpleNamespace(run_details=SimpleNamespace(task_details=tasks)))
    assert list(changes({}, states)) == [
        "ingest: done in 3690.0 s",
        "prepare: done in 90.0 s",
        "prepare …",
    ]
    told = {step.task_id: step.state for step in states}
    assert list(changes(told, states)) == []


def test_the_join_of_parts_is_told_as_the_step_that_it_is():
    from types import SimpleNamespace

    from tumorflow_pipelines.following import step_states

    task = SimpleNamespace(task_id="1", display_name="join", state="FAILED", start_time=None, end_time=None)
    run = SimpleNamespace(run_details=SimpleNamespace(task_details=[task]))
    assert [(step.name, step.state) for step in step_states(run)] == [("preprocess", "FAILED")]
