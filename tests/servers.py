"""Servers that tests and benchmarks start: MLflow's with the policy in it, as its users meet it."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import requests

from tumorflow.evidence import HASH_TAG, NEEDED, describe_files, hash_manifest

ADMIN_PASSWORD = "of-the-tests-alone-1"
ACCOUNTS = {
    "ann": ("engineer",),
    "pipeline": ("pipeline",),
    "rita": ("reviewer",),
    "rob": ("reviewer",),
    "both": ("engineer", "reviewer"),
    "vic": ("viewer",),
    "nora": (),
}
"""Account → roles. The administrator has none."""
SERVED = ("evidence/preprocessing.json", "evidence/release/tflite/model_float32.tflite")
"""What a service takes besides the decision."""


def password_of(name: str) -> str:
    return ADMIN_PASSWORD if name == "admin" else f"of-the-tests-for-{name}-1"


def find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass(frozen=True)
class Version:
    """A registered version, and where its files are."""

    model: str
    number: str
    run_id: str
    model_id: str
    experiment_id: str
    run_files: str
    model_files: str


@dataclass
class Registry:
    """The server with the policy."""

    folder: Path
    port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Of the database."""
        return self.environment["MLFLOW_BACKEND_STORE_URI"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tumorflow", "registry", "serve", "--port", str(self.port)],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2) as reply:
                    if reply.status == 200:
                        return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError((self.folder / "server.log").read_text()[-3000:])

    def kill(self) -> None:
        """Ends every process of the server at once, as a power cut does."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ask(self, who: str, method: str, path: str, **options: Any) -> requests.Response:
        """Returns the answer to one request of an account."""
        prefix = "" if path.startswith(("/api", "/ajax-api")) else "/api/2.0/mlflow/"
        account = (who, password_of(who))
        return requests.request(method, f"{self.url}{prefix}{path}", auth=account, timeout=60, **options)

    def do(self, who: str, method: str, path: str, **content: Any) -> dict[str, Any]:
        """Returns what the server answers to a request that it takes."""
        place = "params" if method == "GET" else "json"
        answer = self.ask(who, method, path, **{place: content})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    @contextmanager
    def client(self, who: str) -> Iterator[Any]:
        """MLflow's own client, as an account."""
        from mlflow import MlflowClient

        account = {"MLFLOW_TRACKING_USERNAME": who, "MLFLOW_TRACKING_PASSWORD": password_of(who)}
        with mock.patch.dict(os.environ, account):
            yield MlflowClient(self.url)

    def command(self, who: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Returns the finished command `tumorflow`, as an account."""
        account = {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": who,
            "MLFLOW_TRACKING_PASSWORD": password_of(who),
            **{f"PASSWORD_{name}": password_of(name) for name in ACCOUNTS},
        }
        return subprocess.run(
            [sys.executable, "-m", "tumorflow", *arguments],
            env={**os.environ, **account},
            capture_output=True,
            text=True,
            check=False,
        )

    def make_accounts(self) -> None:
        """Makes the accounts of the tests by the product's own command."""
        accounts = [
            {"name": name, "roles": list(roles), "password_from": f"PASSWORD_{name}"}
            for name, roles in ACCOUNTS.items()
        ]
        file = self.folder / "accounts.yaml"
        file.write_text(json.dumps(accounts))  # JSON is YAML
        applied = self.command("admin", "registry", "users", "apply", str(file))
        assert applied.returncode == 0, applied.stderr

    def upload(self, who: str, location: str, content: bytes) -> requests.Response:
        """Writes one artifact through the server's proxy."""
        return self.ask(who, "PUT", f"/api/2.0/mlflow-artifacts/artifacts/{location}", data=content)

    def find_experiment(self, who: str, name: str) -> str:
        """Returns the id of an experiment, after making it where it is missing."""
        found = self.ask(who, "GET", "experiments/get-by-name", params={"experiment_name": name})
        if found.status_code == 200:
            return str(found.json()["experiment"]["experiment_id"])
        return str(self.do(who, "POST", "experiments/create", name=name)["experiment_id"])

    def register(
        self,
        model: str,
        who: str = "pipeline",
        decision: str = "accepted",
        tags: dict[str, str] | None = None,
        run_tags: dict[str, str] | None = None,
        *,
        with_evidence: bool = True,
        ended: bool = True,
        files: Mapping[str, bytes] | None = None,
    ) -> Version:
        """Returns a version with evidence, made as the pipeline makes one, but without TensorFlow.

        `files` are laid over those that stand for the evidence.
        """
        experiment = self.find_experiment(who, "tumorflow")
        created = self.do(
            who, "POST", "runs/create", experiment_id=experiment, tags=_as_tags(run_tags or {})
        )  # fmt: skip
        run = created["run"]["info"]["run_id"]
        logged = self.do(
            who, "POST", "logged-models", experiment_id=experiment, name="model", source_run_id=run
        )
        model_id = logged["model"]["info"]["model_id"]
        rules = [{"name": "floor", "passed": decision == "accepted"}]
        contents = {name: f"{name} of {run}".encode() for name in (*NEEDED, *SERVED)}
        contents["evidence/release/decision.json"] = json.dumps(
            {"decision": decision, "rules": rules}
        ).encode()
        contents |= files or {}
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        contents["evidence/manifest.json"] = manifest = describe_files(hashes)
        run_files = f"{experiment}/{run}/artifacts"
        model_files = f"{experiment}/models/{model_id}/artifacts"
        for name, content in contents.items():
            below = name.removeprefix("model/")
            place = f"{run_files}/{name}" if below == name else f"{model_files}/{below}"
            answer = self.upload(who, place, content)
            assert answer.status_code == 200, answer.text
        ready = {"model_id": model_id, "status": "LOGGED_MODEL_READY"}
        self.do(who, "PATCH", f"logged-models/{model_id}", **ready)
        self.ask(who, "POST", "registered-models/create", json={"name": model})
        known = {HASH_TAG: hash_manifest(manifest)} if with_evidence else {}
        version = self.do(
            who, "POST", "model-versions/create", name=model, source=f"models:/{model_id}", run_id=run,
            model_id=model_id, tags=_as_tags({**known, **(tags or {})}), description="as registered",
        )["model_version"]  # fmt: skip
        if ended:
            self.do(who, "POST", "runs/update", run_id=run, status="FINISHED", end_time=1)
        return Version(model, version["version"], run, model_id, experiment, run_files, model_files)

    def set_tag(self, who: str, version: Version, key: str, value: str) -> requests.Response:
        content = {"name": version.model, "version": version.number, "key": key, "value": value}
        return self.ask(who, "POST", "model-versions/set-tag", json=content)

    def approve(self, who: str, version: Version, reason: str = "good on every ground") -> requests.Response:
        return self.set_tag(who, version, "review.approve", reason)

    def set_alias(self, who: str, version: Version, alias: str = "champion") -> requests.Response:
        content = {"name": version.model, "version": version.number, "alias": alias}
        return self.ask(who, "POST", "registered-models/alias", json=content)

    def champion(self, model: str) -> str:
        """Returns the champion's version, as a viewer is told it; an empty string: there is none."""
        asked = {"name": model, "alias": "champion"}
        answer = self.ask("vic", "GET", "registered-models/alias", params=asked)
        return str(answer.json()["model_version"]["version"]) if answer.status_code == 200 else ""

    def tags(self, version: Version) -> dict[str, str]:
        told = self.do("vic", "GET", "model-versions/get", name=version.model, version=version.number)
        return {tag["key"]: tag["value"] for tag in told["model_version"].get("tags", [])}

    def audit(self, model: str = "") -> list[dict[str, Any]]:
        """Returns the entries on a model; of all without one."""
        entries = self.do("vic", "GET", "/api/2.0/tumorflow/audit")["entries"]
        return [entry for entry in entries if not model or entry["model"] == model]


def _as_tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


@contextmanager
def running_registry(folder: Path, **environment: str) -> Iterator[Registry]:
    """A server with the accounts of the tests; all its processes end with the block."""
    server = make_registry(folder, **environment)
    server.start()
    try:
        server.make_accounts()
        yield server
    finally:
        server.kill()


def make_registry(folder: Path, **environment: str) -> Registry:
    """Returns a server that is not started yet."""
    own = {
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "0f5b8c6d-long-enough-for-the-tests-9a7e",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
    }
    return Registry(folder, find_free_port(), {**own, **environment})
