"""Steps in containers: the same results as in process, and no failure taken for a success."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tumorflow.cluster import Images
from tumorflow.errors import UsageError
from tumorflow_pipelines import containers

TUMORFLOW = str(Path(sys.executable).parent / "tumorflow")
DETERMINISTIC = ("ingest", "validate", "preprocess", "train", "evaluate")


def test_every_command_is_handed_to_the_engine_and_nothing_else_is_changed():
    definition = {
        "root": {"dag": {}},
        "deploymentSpec": {
            "executors": {
                "exec-a": {
                    "container": {"image": "i:1", "command": ["sh", "-c", "python3 x"], "args": ["{{$}}"]}
                }
            }
        },
    }
    before = json.dumps(definition)
    contained = containers.contain(definition)
    executor = contained["deploymentSpec"]["executors"]["exec-a"]["container"]
    assert executor["image"] == "i:1"
    assert executor["args"] == ["{{$}}"]
    assert contained["root"] == definition["root"]
    handed = json.loads(bytes.fromhex(executor["command"][3]))
    assert handed["command"] == ["sh", "-c", "python3 x"]
    assert "python3" not in "".join(executor["command"][1:]), "kfp would put this machine's interpreter there"
    assert json.dumps(definition) == before


@pytest.mark.parametrize("client_misses_it", [False, True])
@pytest.mark.parametrize("code", [0, 2, 137])
def test_a_container_ends_with_its_own_exit_code(tmp_path, monkeypatch, capfd, code, client_misses_it):
    engine = tmp_path / "engine"
    client = 0 if client_misses_it else code
    engine.write_text(
        "#!/bin/sh\n"
        f'case "$1" in run) echo "$@" > {tmp_path}/asked; exit {client};; '
        f'wait) echo {code};; rm) echo "$@" > {tmp_path}/removed;; esac\n'
    )
    engine.chmod(0o755)
    monkeypatch.setenv("TUMORFLOW_PSEUDONYM_KEY", "secret-word")
    monkeypatch.setenv(containers.START_VARIABLE, json.dumps([str(engine), "run"]))
    handed = {"image": "i:1", "command": ["sh"]}
    assert containers.run_contained(json.dumps(handed).encode().hex(), ["--x"]) == code
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("run ")
    assert asked.endswith("i:1 sh --x\n")
    assert "--env=TUMORFLOW_PSEUDONYM_KEY" in asked
    assert "secret-word" not in asked, "a command line is for all to see"
    assert containers.START_VARIABLE not in asked
    assert (tmp_path / "removed").read_text().startswith("rm --force tumorflow-")
    assert ("killed, or ran out of memory" in capfd.readouterr().out) == (code == 137)


def test_a_container_sees_what_it_may_and_has_no_rights():
    start = containers.Containers("docker", read=(Path("/source"),), written=(Path("/runs"),), memory="4g")
    command = start.start_command()
    assert "--volume=/source:/source:ro" in command
    assert "--volume=/runs:/runs" in command
    assert {"--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=4g"} <= set(
        command
    )
    assert f"--user={os.getuid()}:{os.getgid()}" in command


def test_an_image_that_is_not_there_is_named(container_engine):
    with pytest.raises(UsageError, match="make images"):
        containers.find_image(container_engine.command, "localhost/tumorflow-light:never")


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_place):
    """A working folder with a source, in which every run is quick."""
    return shutil.copytree(tiny_place, tmp_path_factory.mktemp("containers") / "place")


def start(place: Path, *options: str) -> "subprocess.Popen[str]":
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    return subprocess.Popen(
        [TUMORFLOW, "run", "--source", "source", *options],
        cwd=place,
        env={**kept, "TUMORFLOW_PSEUDONYM_KEY": "3c7a9e51f08b42d6a1c4e7f39b85d260"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(place: Path, *options: str) -> tuple[int, str]:
    with start(place, *options) as running:
        told = running.stdout.read()
    return running.returncode, told


def summary(place: Path) -> dict:
    return json.loads((place / "runs" / "latest" / "summary.json").read_text())


def hashes(place: Path) -> dict[str, str]:
    return {
        step["name"]: step["content_hash"]
        for step in summary(place)["steps"]
        if step["name"] in DETERMINISTIC
    }


@pytest.fixture(scope="module")
def contained(place, built_images):
    """The summary of a run in containers."""
    code, told = run(place, "--runner", "docker")
    assert code == 0, told + (place / "runs/latest/pipeline.log").read_text()[-3000:]
    return summary(place)


def test_containers_give_the_results_of_processes(contained, place):
    in_containers = hashes(place)
    code, told = run(place)
    assert code == 0, told
    assert not any(step["cached"] for step in summary(place)["steps"]), "another image is another key"
    assert hashes(place) == in_containers
    assert summary(place)["metrics"] == contained["metrics"]
    assert [rule["passed"] for rule in summary(place)["decision"]["rules"]] == [
        rule["passed"] for rule in contained["decision"]["rules"]
    ]


def test_a_version_names_the_image_that_made_it_by_its_content(contained, place, container_engine):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place}/runs/mlflow/mlflow.db")
    version = client.get_model_version(contained["model"]["name"], contained["model"]["version"])
    asked = container_engine.run("image", "inspect", "--format", "{{.Id}}", Images().tensorflow)
    image = asked.stdout.strip().removeprefix("sha256:")
    assert version.tags["tumorflow.image"] == image
    assert f"image `{image}`" in version.description


def test_an_unchanged_image_runs_nothing_again(contained, place):
    code, told = run(place, "--runner", "docker")
    assert code == 0, told
    assert all(step["cached"] for step in summary(place)["steps"])


def test_a_step_that_fails_in_its_container_ends_the_run_with_its_reason(contained, place):
    code, told = run(place, "--runner", "docker", "--set", "validate.min_patients_per_class=50")
    assert code == 1, told
    assert "validate: failed" in told
    assert "preprocess" not in told
    assert summary(place)["status"] == "failed"
    assert "50" in summary(place)["error"]["message"]


def test_a_killed_container_is_no_success(contained, container_engine, place):
    label = f"label=tumorflow={place}/runs"
    with start(place, "--runner", "docker", "--set", "seed=8") as running:
        for line in running.stdout:
            if line.startswith("train"):
                break
        working = ""
        while not working and running.poll() is None:
            working = container_engine.run("ps", "--quiet", "--filter", label).stdout.strip()
            time.sleep(0.1)
        container_engine.run("kill", working)
        told = running.stdout.read()
    assert running.returncode == 1, told
    assert "train died without" in told
    assert "evaluate" not in told
    assert container_engine.run("ps", "--all", "--quiet", "--filter", label).stdout == ""


def test_a_step_without_memory_is_no_success(contained, place):
    code, told = run(place, "--runner", "docker", "--memory", "120m", "--set", "seed=9")
    assert code == 1, told
    assert "killed, or ran out of memory" in told
    assert "ingest died without" in told or "validate died without" in told
    assert summary(place)["decision"] is None
