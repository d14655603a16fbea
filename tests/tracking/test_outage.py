"""A tracking server that goes away and comes back: a real one, on loopback."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tumorflow import tracking
from tumorflow.tracking.connection import connect, experiment_id

MLFLOW = str(Path(sys.executable).parent / "mlflow")


class Server:
    """MLflow with a sqlite store, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": "1",
            "--backend-store-uri": f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination": str(self.folder / "artifacts"),
        }
        self.process = subprocess.Popen(
            [MLFLOW, "server", *(part for option in options.items() for part in option)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(600):
            if self.answers():
                return
            time.sleep(0.1)
        raise TimeoutError("the server did not start")

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as reply:
                return reply.status == 200
        except OSError:
            return False

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def stopped_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()  # once, so that its tables are there
    server.stop()
    yield server
    server.stop()


@pytest.fixture
def server(stopped_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stopped_server.url)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    return stopped_server


def started_later(server: Server, delay_s: float) -> threading.Thread:
    def start() -> None:
        time.sleep(delay_s)
        server.start()

    thread = threading.Thread(target=start)
    thread.start()
    return thread


def test_a_step_waits_for_a_server_that_comes_back(server, tmp_path):
    (tmp_path / "report.txt").write_text("evidence")
    coming = started_later(server, 2)
    with tracking.track_step("train", "job-outage", {"epochs": 2}) as tracker:
        coming.join()
        tracker.log_metrics({"loss": 0.5})
        server.stop()
        coming = started_later(server, 2)
        tracker.log_folder(tmp_path, "evidence")
    coming.join()
    tracking.finish_job("job-outage", "FINISHED", summary={"status": "finished"})
    client = connect()
    runs = client.search_runs([experiment_id(client)], "tags.`tumorflow.job` = 'job-outage'")
    assert sorted(run.info.run_name for run in runs) == ["job-outage", "train"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    train = next(run for run in runs if run.info.run_name == "train")
    assert train.data.metrics == {"loss": 0.5}
    assert [file.path for file in client.list_artifacts(train.info.run_id, "evidence")] == [
        "evidence/report.txt"
    ]
    assert tracking.fetch_summary("job-outage") == {"status": "finished"}
