"""The compiled pipeline, run as its user runs it, on a tiny source of images."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TUMORFLOW = str(Path(sys.executable).parent / "tumorflow")
CHAIN = ["ingest", "validate", "preprocess", "train", "evaluate", "export"]
CONTRACT = {
    "data_hash",
    "git_commit",
    "params_hash",
    "decision",
    "metrics",
    "groups",
    "slices",
    "model",
    "artifacts",
    "steps",
    "peak_memory_mb",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_place):
    """A working folder with a source, in which every run is quick."""
    return shutil.copytree(tiny_place, tmp_path_factory.mktemp("runs") / "place")


def command(*settings: str) -> list[str]:
    overrides = [part for setting in settings for part in ("--set", setting)]
    return [TUMORFLOW, "run", "--source", "source", *overrides]


def environment(place: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    return {**kept, "TUMORFLOW_PSEUDONYM_KEY": "3c7a9e51f08b42d6a1c4e7f39b85d260"}


def run(place: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*settings), cwd=place, env=environment(place), capture_output=True, text=True, check=False
    )


def start(place: Path, *settings: str) -> "subprocess.Popen[str]":
    """Starts a run in a session of its own, so that the whole of it can be killed."""
    return subprocess.Popen(
        command(*settings),
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def summary(place: Path) -> dict:
    return json.loads((place / "runs" / "latest" / "summary.json").read_text())


def told(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def cached(place: Path) -> dict[str, bool]:
    return {step["name"]: step["cached"] for step in summary(place)["steps"]}


@pytest.fixture(scope="module")
def accepted(place):
    """The outcome and the summary of a first run that passes the gate."""
    done = run(place)
    assert done.returncode == 0, (
        done.stdout + done.stderr + (place / "runs/latest/pipeline.log").read_text()[-3000:]
    )
    return done, summary(place)


def test_an_accepted_model_becomes_a_candidate(accepted):
    done, told = accepted
    assert told["decision"]["verdict"] == "accepted"
    assert all(rule["passed"] for rule in told["decision"]["rules"])
    assert told["model"]["version"] == "1"
    assert told["model"]["aliases"] == ["candidate"]
    assert "decision: accepted" in done.stdout
    assert "not for clinical decisions" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_summary_keeps_its_contract(accepted, place):
    _, told = accepted
    assert set(told) >= CONTRACT
    assert sum(count for split in told["slices"].values() for count in split.values()) == 36
    assert set(told["groups"]) == {"train", "validation", "test"}
    assert {"value", "low", "high"} <= set(told["metrics"]["macro_f1"])
    assert [step["name"] for step in told["steps"]] == CHAIN
    assert not any(step["cached"] for step in told["steps"])
    for name, path in told["artifacts"].items():
        assert Path(path).exists(), name
    assert "model_float32" in told["artifacts"]
    assert "model_dynamic" in told["artifacts"]


def test_an_unchanged_run_does_no_step_again(accepted, place):
    _, first = accepted
    assert run(place).returncode == 0
    assert all(cached(place).values())
    again = summary(place)
    for same in ("data_hash", "params_hash", "decision", "metrics", "model", "artifacts"):
        assert again[same] == first[same]


def test_a_training_parameter_runs_training_and_what_follows_and_a_floor_only_the_gate(accepted, place):
    done = run(place, "train.epochs=1", "evaluate.min_macro_f1=1")
    assert done.returncode == 3, done.stdout + done.stderr
    unchanged = [name for name, from_cache in cached(place).items() if from_cache]
    assert unchanged == ["ingest", "validate", "preprocess"]
    told = summary(place)
    assert told["decision"]["verdict"] == "rejected"
    assert [rule["name"] for rule in told["decision"]["rules"] if not rule["passed"]] == ["macro_f1"]
    assert told["model"]["version"] == "2"
    assert told["model"]["aliases"] == []
    assert "decision: rejected" in done.stdout


def test_runs_are_tracked_with_one_parent_and_a_nested_run_a_step(accepted, place, monkeypatch):
    from tumorflow.tracking.connection import connect, experiment_id

    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = connect()
    found = client.search_runs([experiment_id(client)], order_by=["attribute.start_time ASC"])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    first = parents[0]
    assert first.info.status == "FINISHED"
    assert first.data.tags["tumorflow.decision"] == "accepted"
    nested = [run for run in found if run.data.tags.get("mlflow.parentRunId") == first.info.run_id]
    assert [run.info.run_name for run in nested] == CHAIN
    assert "summary.json" in {entry.path for entry in client.list_artifacts(first.info.run_id)}
    train = next(run for run in nested if run.info.run_name == "train")
    assert len(client.get_metric_history(train.info.run_id, "val_loss")) == 2
    version = client.get_model_version_by_alias("tumorflow-ct", "candidate")
    assert version.tags["tumorflow.decision"] == "accepted"
    assert version.tags["tumorflow.data_hash"] == summary(place)["data_hash"]
    evidence = {entry.path for entry in client.list_artifacts(version.run_id, "evidence/evaluation")}
    assert "evidence/evaluation/report.html" in evidence


def test_a_killed_run_leaves_nothing_half_written_and_the_next_one_gives_the_same(accepted, place):
    _, first = accepted
    with start(place, "seed=8") as victim:
        for line in victim.stdout:
            if line.startswith("train"):
                break
        time.sleep(3)  # somewhere inside training
        os.killpg(victim.pid, signal.SIGKILL)
    assert summary(place)["status"] == "finished", "the former summary stands"
    assert run(place).returncode == 0
    killed = [folder for folder in (place / "runs").glob("*Z") if told(folder)["status"] == "killed"]
    assert len(killed) == 1, "the run that follows ends what was left open"
    assert all(cached(place).values())
    assert summary(place)["metrics"] == first["metrics"]
    assert not list((place / "runs").rglob("*.partial"))


def test_a_version_that_the_registry_lost_is_registered_again(accepted, place, tmp_path):
    elsewhere = {**environment(place), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/other.db"}
    done = subprocess.run(command(), cwd=place, env=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [name for name, from_cache in cached(place).items() if not from_cache] == ["export"]
    assert summary(place)["model"]["aliases"] == ["candidate"]
    (tmp_path / "other.db").unlink()
    done = subprocess.run(command(), cwd=place, env=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [name for name, from_cache in cached(place).items() if not from_cache] == ["export"]


def test_a_terminated_run_ends_its_step_and_says_so(accepted, place):
    with start(place, "seed=9") as victim:
        for line in victim.stdout:
            if line.startswith("ingest"):
                break
        victim.terminate()
        told = victim.stdout.read()
    assert victim.returncode == 130
    assert "interrupted" in told
    assert "Traceback" not in told
    assert summary(place)["status"] == "interrupted"
    running = subprocess.run(["pgrep", "-f", f"{place}/runs"], capture_output=True, text=True, check=False)
    assert running.stdout == "", "no step outlives the run"
    assert run(place).returncode == 0
    assert summary(place)["status"] == "finished"


@pytest.mark.parametrize(
    ("prepare", "code", "message"),
    [
        (lambda place: None, 2, "Received: empty"),
        (lambda place: (place / "normal").mkdir(), 2, "usable"),
        (lambda place: (place / "a.dcm").write_text("no DICOM"), 2, "usable"),
    ],
)
def test_a_source_without_a_usable_slice_ends_in_one_message(tmp_path, prepare, code, message):
    source = tmp_path / "source"
    source.mkdir()
    prepare(source)
    done = run(tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert json.loads((tmp_path / "runs/latest/summary.json").read_text())["status"] == "failed"


def test_parts_give_what_one_step_gives_and_a_killed_part_is_all_that_is_done_again(accepted, place):
    _, first = accepted
    with start(place, "preprocess.parallel_parts=3") as victim:
        began = 0
        for line in victim.stdout:
            began += line.startswith("prepare …")
            if began == 3:  # of two workers one is done, and kfp has kept what it did
                break
        os.killpg(victim.pid, signal.SIGKILL)
    again = run(place, "preprocess.parallel_parts=3")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("prepare: done") in (1, 2), "what was done is not done again"
    hashes = [
        {step["name"]: step["content_hash"] for step in told["steps"]} for told in (first, summary(place))
    ]
    assert hashes[0]["preprocess"] == hashes[1]["preprocess"]
    assert hashes[0]["train"] == hashes[1]["train"]


def test_retraining_ends_early_where_nothing_is_new_and_else_has_the_champion_as_yardstick(
    accepted, place, monkeypatch
):
    from tumorflow.tracking.connection import connect

    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    connect().set_registered_model_alias("tumorflow-ct", "champion", "1")
    retrain = [*command(), "--pipeline", "retrain"]
    halted = subprocess.run(
        retrain, cwd=place, env=environment(place), capture_output=True, text=True, check=False
    )
    assert halted.returncode == 0, halted.stdout + halted.stderr
    assert "nothing was trained" in halted.stdout
    assert "train …" not in halted.stdout
    assert summary(place)["decision"]["verdict"] == "halted"
    compared = run(place)
    assert compared.returncode in (0, 3), compared.stdout + compared.stderr
    assert "champion: tumorflow-ct/1, the yardstick" in compared.stdout, "every pipeline asks for it"
    assert cached(place)["ingest"]
    assert not cached(place)["evaluate"]
    assert "not_worse_than_champion" in {rule["name"] for rule in summary(place)["decision"]["rules"]}
    for number in range(12):  # brighter copies are no near-duplicates of what is known, but new contents
        picture = (place / "source" / "normal" / f"{number}.png").read_bytes()
        (place / "source" / "normal" / f"new-{number}.png").write_bytes(invert(picture))
    trained = subprocess.run(
        retrain, cwd=place, env=environment(place), capture_output=True, text=True, check=False
    )
    assert trained.returncode in (0, 3), trained.stdout + trained.stderr
    rules = {rule["name"] for rule in summary(place)["decision"]["rules"]}
    assert "not_worse_than_champion" in rules
    assert connect().get_model_version_by_alias("tumorflow-ct", "champion").version in (1, "1")


def invert(picture: bytes) -> bytes:
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    return cv2.imencode(".png", 255 - pixels)[1].tobytes()
