import errno
import json
import sys
from types import SimpleNamespace

import pytest

from tumorflow import execution, lineage
from tumorflow.errors import DataError, ParameterError, SourceError, UnavailableError, UsageError
from tumorflow.files import read_json
from tumorflow.params import Parameters
from tumorflow.tracker import Untracked


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """Puts a small function in the place of a step, and returns how to execute it."""
    from contextlib import nullcontext

    monkeypatch.setattr("tumorflow.tracking.track_step", lambda *_: nullcontext(Untracked()))

    def execute(body, name="validate", **settings):
        module = f"tumorflow.{execution.find_step(name).room}.step"
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(run=body))
        dataset = tmp_path / "dataset"
        if not dataset.exists():
            dataset.mkdir()
            (dataset / "record.json").write_text(
                '{"lineage": {"data_hash": "d", "ingest": {"params_hash": "p"}}}'
            )
        given = {
            "params": Parameters().section(name).model_dump_json(),
            "inputs": {"dataset": str(dataset)},
            "output": str(tmp_path / "validation"),
        }
        return execution.execute(name, **{**given, **settings})

    return execute


def write_one(params, *, dataset, validation, tracker):
    (validation / "report.json").write_text("{}")
    return "accepted"


def test_a_step_leaves_its_output_with_a_record(stage, tmp_path):
    assert stage(write_one, image="sha256:1f") == "accepted"
    record = read_json(tmp_path / "validation" / "record.json")
    assert record["step"] == "validate"
    assert record["lineage"]["data_hash"] == "d"
    assert set(record["lineage"]) == {"data_hash", "ingest", "validate"}
    assert record["content_hash"] == lineage.hash_content(tmp_path / "validation")
    assert record["peak_memory_mb"] > 10
    assert record["params"]["seed"] == Parameters().train.seed
    assert record["image"] == "sha256:1f"


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (DataError("no"), DataError, "no"),
        (OSError(errno.ENOSPC, "No space left on device"), UnavailableError, "the disk is full"),
        (OSError(errno.EACCES, "Permission denied"), UnavailableError, "Permission denied"),
    ],
)
def test_a_failing_step_leaves_nothing(stage, tmp_path, raised, expected, message):
    def fail(params, *, dataset, validation, tracker):
        (validation / "half").write_text("half")
        raise raised

    with pytest.raises(expected, match=message):
        stage(fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset"]


def test_an_input_that_no_step_finished_is_refused(stage, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="'dataset'"):
        stage(write_one, inputs={"dataset": str(tmp_path / "empty")})


@pytest.mark.parametrize("output", ["dataset", "dataset/slices", "."])
def test_an_output_never_replaces_what_the_step_reads(stage, tmp_path, output):
    stage_before = tmp_path / "dataset"
    with pytest.raises(UsageError, match="apart from what the step reads"):
        stage(write_one, output=str(tmp_path / output))
    assert (stage_before / "record.json").is_file()


def test_an_output_replaces_only_what_the_same_step_wrote(stage, tmp_path):
    (tmp_path / "validation").mkdir()
    stage(write_one)  # an empty folder is free
    stage(write_one)  # its own earlier output, too
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="holds something else"):
        stage(write_one, output=str(precious))
    assert (precious / "thesis.txt").read_text() == "years"


def test_unknown_parameters_stop_before_anything_is_written(stage, tmp_path):
    with pytest.raises(ParameterError, match="'nothing'"):
        stage(write_one, params='{"nothing": 1}')
    assert not (tmp_path / "validation").exists()


def test_in_a_pipeline_a_failure_is_one_line_and_an_exit_code(stage, monkeypatch, capsys):
    def fail(name, **settings):
        raise SourceError("the rule. Received: this. Do that.")

    monkeypatch.setattr(execution, "execute", fail)
    with pytest.raises(SystemExit) as ended:
        execution.execute_in_pipeline("ingest", output="x/dataset")
    assert ended.value.code == 2
    started, failed = capsys.readouterr().out.splitlines()
    assert started == "step ingest: started"
    assert json.loads(failed.removeprefix("step ingest: failed ")) == {
        "exit_code": 2,
        "message": "the rule. Received: this. Do that.",
    }


def test_a_step_of_another_version_than_was_started_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(execution, "execute", lambda name, **settings: "")
    own = lineage.hash_code(execution.find_step("ingest"))
    for code_hash, other in ((own, False), (f"{own}-weights", False), ("", False), ("0" * 16, True)):
        execution.execute_in_pipeline("ingest", output=str(tmp_path / "dataset"), code_hash=code_hash)
        assert ("another version of step ingest" in capsys.readouterr().out) == other
