import subprocess
import sys
from pathlib import Path

import pytest

from tumorflow import cli
from tumorflow.chain import STEPS

TUMORFLOW = str(Path(sys.executable).parent / "tumorflow")


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_step_helps_with_an_example(step, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([step.name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert step.example in text
    assert "not for clinical decisions" in text
    for name in (*step.inputs, step.output):
        assert f"--{name} " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--tensors", "nowhere", "--model", "m"], "'tensors'"),
        (["train", "--tensors", "t", "--model", "m", "--set", "train.epochs=-1"], "'train.epochs'"),
        (["train", "--tensors", "t", "--model", "m", "--params", "nothing.yaml"], "nothing.yaml"),
        (["train", "--tensors", "t", "--model", "m", "--preset", "nothing"], "A preset is one of"),
        (["run", "--source", "nowhere"], "nothing at it"),
        (["run", "--pipeline", "nowhere.yaml"], "names a compiled definition"),
        (["run", "--set", "train.weights=nowhere.h5"], "'train.weights'"),
        (["run", "--memory", "4g"], "without --runner docker"),
        (["run", "--runner", "docker", "--memory", "lots"], "For example: 4g"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["train"], ["ingest", "--dataset", "d"]])
def test_a_malformed_command_line_ends_with_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: tumorflow" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", TUMORFLOW, "--help"], capture_output=True, text=True, check=True
    )
    modules = {line.rpartition("|")[2].strip() for line in loaded.stderr.splitlines()}
    assert not modules & {
        "tensorflow",
        "keras",
        "mlflow",
        "great_expectations",
        "pandas",
        "kfp",
        "cv2",
        "sklearn",
    }


def test_an_unforeseen_error_is_one_message_without_its_text(monkeypatch, capsys):
    def fail(_given):
        raise ZeroDivisionError("Doe^Jane")

    monkeypatch.setattr(cli, "run_step", lambda step, given: fail(given))
    assert cli.main(["train", "--tensors", "t", "--model", "m"]) == 1
    told = capsys.readouterr().err
    assert "ZeroDivisionError" in told
    assert "Doe" not in told
    assert told.count("\n") == 1


def test_a_pipeline_may_not_crown_a_champion(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tensors", "model", "evaluation"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text('{"lineage": {}}')
    code = cli.main(
        [
            "export",
            *("--tensors", "tensors", "--model", "model", "--evaluation", "evaluation"),
            *("--release", "release", "--alias", "champion"),
        ]
    )
    assert code == 2
    assert "champion" in capsys.readouterr().err
    assert not (tmp_path / "release").exists()
