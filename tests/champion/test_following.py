"""From a decision on a real server to a service's folder: webhook, export and follower, as they run."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from servers import Registry, find_free_port, password_of, running_registry
from waiting import wait_until

from tumorflow.champion.follower import resolve_current
from tumorflow.review import signature

pytestmark = pytest.mark.timeout(300)
SECRET = "5d1f0c6e-of-the-tests-alone-b7a93e42"


@pytest.fixture(scope="module")
def port() -> int:
    return find_free_port()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Registry]:
    """A server that tells a follower of its decisions."""
    receiver = f"http://127.0.0.1:{port}/champion"
    with running_registry(
        tmp_path_factory.mktemp("registry"), TUMORFLOW_WEBHOOK_URLS=receiver, TUMORFLOW_WEBHOOK_SECRET=SECRET
    ) as server:
        yield server


@contextmanager
def follower(registry: Registry, port: int, model: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`tumorflow champion follow`, which asks by itself too seldom to matter here."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "tumorflow", "champion", "follow", "--model", model,
            "--folder", str(folder), "--listen", f"127.0.0.1:{port}", "--poll", "600",
        ],
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": registry.url,
            "MLFLOW_TRACKING_USERNAME": "vic",
            "MLFLOW_TRACKING_PASSWORD": password_of("vic"),
            "TUMORFLOW_WEBHOOK_SECRET": SECRET,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: _listens(port))
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def _listens(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
    except requests.RequestException:
        return False


def version_in(folder: Path) -> str:
    current = resolve_current(folder)
    return json.loads((current / "version.json").read_text())["version"] if current else ""


def test_a_folder_takes_the_new_champion_and_the_former_one_back(registry, port, tmp_path):
    first, second = registry.register("swapped"), registry.register("swapped")
    seen: list[str] = []
    reading = threading.Event()

    def read() -> None:
        while not reading.is_set():
            current = resolve_current(tmp_path)
            if current is None:
                continue
            version = json.loads((current / "version.json").read_text())["version"]
            model = (current / "release" / "tflite" / "model_float32.tflite").read_text()
            run = {"1": first, "2": second}[version].run_id
            seen.append(version if model.endswith(run) else "torn")

    with follower(registry, port, "swapped", tmp_path):
        reader = threading.Thread(target=read)
        reader.start()
        try:
            registry.approve("rita", first)
            wait_until(lambda: version_in(tmp_path) == "1")
            for _ in range(5):
                registry.approve("rob", second)
                wait_until(lambda: version_in(tmp_path) == "2")
                registry.set_tag("rita", first, "review.rollback", "the second misses nodules")
                wait_until(lambda: version_in(tmp_path) == "1")
        finally:
            reading.set()
            reader.join()
    assert set(seen) == {"1", "2"}


def test_a_receiver_that_was_dead_loses_nothing(registry, port, tmp_path):
    versions = [registry.register("unheard") for _ in range(3)]
    for version in versions:
        assert registry.approve("rita", version).status_code == 200
    with follower(registry, port, "unheard", tmp_path):
        wait_until(lambda: version_in(tmp_path) == "3")
        handled = json.loads((tmp_path / "handled.json").read_text())
    assert handled["sequence"] >= registry.audit("unheard")[-1]["sequence"]


def test_a_follower_that_was_killed_comes_back_whole(registry, port, tmp_path):
    first, second = registry.register("killed"), registry.register("killed")
    with follower(registry, port, "killed", tmp_path) as process:
        registry.approve("rita", first)
        registry.approve("rita", second)
        process.kill()
    with follower(registry, port, "killed", tmp_path):
        wait_until(lambda: version_in(tmp_path) == "2")
    assert not list(tmp_path.rglob("*.partial"))


def test_forged_replayed_and_garbled_webhooks_change_nothing(registry, port, tmp_path):
    version = registry.register("forged")
    address = f"http://127.0.0.1:{port}/champion"
    with follower(registry, port, "forged", tmp_path):
        registry.approve("rita", version)
        wait_until(lambda: version_in(tmp_path) == "1")
        before = (tmp_path / "handled.json").read_bytes()
        body = json.dumps(registry.audit("forged")[-1]).encode()
        now = int(time.time())
        attempts = [
            (body, signature.sign("another secret that is long enough", "1", now, body), 401),
            (body, {}, 401),
            (body, signature.sign(SECRET, "1", now - 3600, body), 401),
            (body + b" ", signature.sign(SECRET, "1", now, body), 401),
            (b"{}", signature.sign(SECRET, "1", now, b"{}"), 400),
            (b"x" * 100_000, signature.sign(SECRET, "1", now, b"x" * 100_000), 413),
            (body, signature.sign(SECRET, "1", now, body), 200),  # a replay: handled before
        ]
        for content, headers, expected in attempts:
            assert requests.post(address, data=content, headers=headers, timeout=30).status_code == expected
        assert (tmp_path / "handled.json").read_bytes() == before
        assert version_in(tmp_path) == "1"


def test_the_audit_is_copied_to_the_artifact_store_and_verified_with_it(registry):
    version = registry.register("copied")
    registry.approve("rita", version)
    last = registry.audit()[-1]
    copies = registry.folder / "artifacts" / "tumorflow-audit"
    copy = copies / f"{last['sequence']:08d}.json"
    wait_until(copy.exists)
    assert json.loads(copy.read_text()) == last
    verified = registry.command("vic", "audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert f"{last['sequence']} exported copies agree" in verified.stdout
    copy.write_text(copy.read_text().replace("rita", "rob"))
    found = registry.command("vic", "audit", "verify")
    assert found.returncode == 1
    assert str(last["sequence"]) in found.stdout
    copy.unlink()
    shown = registry.command("vic", "audit", "show", "--model", "copied")
    assert "rita" in shown.stdout
    assert "approved" in shown.stdout
