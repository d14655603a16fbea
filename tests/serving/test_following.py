"""The service and a real registry: a reviewer approves, and the next request is answered by that version."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ct_files import encode_ct
from servers import find_free_port, password_of, running_registry
from service_client import Client
from waiting import wait_until

pytestmark = pytest.mark.timeout(300)
MODEL = "evidence/release/tflite/model_float32.tflite"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with running_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


def find_followers(folder):
    """Returns the processes that keep a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                if b"follow" in command and (entry / "cwd").resolve() == folder:
                    found.append(int(entry.name))
            except OSError:  # it has ended
                continue
    return found


def test_an_approved_version_answers_and_the_next_one_after_it(registry, write_model, tmp_path):
    content = write_model(tmp_path / "model.tflite").read_bytes()
    first, second = (registry.register("served", files={MODEL: content}) for _ in range(2))
    client = Client(find_free_port(), [])
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tumorflow",
            "serve",
            "--champion",
            "served",
            "--poll",
            "1",
            "--port",
            str(client.port),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": registry.url,
            "MLFLOW_TRACKING_USERNAME": "vic",
            "MLFLOW_TRACKING_PASSWORD": password_of("vic"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def ask():
        try:
            answer = client.predict(encode_ct())
        except OSError:
            return 0, ""
        return answer.status, answer.json.get("model", {}).get("version", "")

    try:
        wait_until(lambda: ask() == (503, ""))
        assert registry.approve("rita", first).status_code == 200
        wait_until(lambda: ask() == (200, "1"))
        assert registry.approve("rob", second).status_code == 200
        wait_until(lambda: ask() == (200, "2"))
        registry.set_tag("rita", first, "review.rollback", "the second misses nodules")
        wait_until(lambda: ask() == (200, "1"))
        (follower,) = find_followers(tmp_path)
        os.kill(follower, signal.SIGKILL)
        wait_until(lambda: find_followers(tmp_path) not in ([], [follower]))
        assert ask() == (200, "1"), "a follower that dies is started again, the champion answers on"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert find_followers(tmp_path) == []
    assert "answers come from served/2" in output
    assert "Traceback" not in output


def test_a_service_that_is_killed_leaves_no_follower(tmp_path):
    command = [sys.executable, "-m", "tumorflow", "serve", "--port", str(find_free_port())]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: find_followers(tmp_path))
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: find_followers(tmp_path) == [])
