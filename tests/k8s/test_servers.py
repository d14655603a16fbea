"""The overlay `local`, as rendered, run here by `podman kube play`: its servers, a whole pipeline run against
them, a reviewer's decision on it, its backup.

What one host's podman cannot do is replaced, and only that: PostgreSQL is Debian's in an image made here
(postgres.Dockerfile), since no registry need be in reach; without SeaweedFS' image (the rendered one, or what
TUMORFLOW_TEST_STORE_IMAGE names), the object store is that of the other tests; claims are podman's volumes;
probes are the test's; a Deployment is its one pod. MLflow's image is the one that `make images` builds;
TUMORFLOW_TEST_MLFLOW_IMAGE names another.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
OBJECT_STORE = ROOT.parent / "shared" / "tools" / "object-store"
MLFLOW_IMAGE = os.environ.get("TUMORFLOW_TEST_MLFLOW_IMAGE", "localhost/tumorflow-mlflow:0.1.0")
POSTGRES_IMAGE = "localhost/tumorflow-test-postgres:15"
STORE_IMAGE = os.environ.get("TUMORFLOW_TEST_STORE_IMAGE", "ghcr.io/chrislusf/seaweedfs:4.34")
BASE_IMAGE = "docker.io/library/python:3.11-slim"
CHAIN = ["ingest", "validate", "preprocess", "train", "evaluate", "export"]
MODEL = "tumorflow-ct"
RITA_PASSWORD = "of-the-tests-for-rita-1"


def has_image(name: str) -> bool:
    return subprocess.run(["podman", "image", "exists", name], check=False).returncode == 0


@pytest.fixture(scope="module")
def images() -> dict[str, str]:
    """Returns for a word of a rendered image's name the image that is played."""
    if not shutil.which("podman"):
        pytest.skip("no podman")
    if not has_image(MLFLOW_IMAGE):
        pytest.skip(f"no image {MLFLOW_IMAGE}: make images")
    if not has_image(BASE_IMAGE):
        pytest.skip(f"no image {BASE_IMAGE}, from which the test makes PostgreSQL's")
    build = ["podman", "build", "--quiet", "--pull-never", "--layers", "--tag", POSTGRES_IMAGE]
    done = subprocess.run(
        [*build, "--file", str(HERE / "postgres.Dockerfile"), str(HERE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {"mlflow": MLFLOW_IMAGE, "postgres": POSTGRES_IMAGE, "seaweedfs": STORE_IMAGE}


@pytest.fixture(scope="module")
def object_store(images: dict[str, str]) -> dict[str, str] | None:
    """Returns the variables of a real S3 server on loopback; None: SeaweedFS can be played."""
    if has_image(images["seaweedfs"]):
        return None
    if not OBJECT_STORE.exists():
        pytest.skip(f"neither an image {STORE_IMAGE} nor {OBJECT_STORE.name} beside the repository")
    printed = subprocess.run([OBJECT_STORE, "start"], capture_output=True, text=True, check=True).stdout
    return dict(line.removeprefix("export ").split("=", 1) for line in printed.splitlines())


@pytest.fixture(scope="module")
def host(
    images: dict[str, str],
    object_store: dict[str, str] | None,
    rendered: Callable[[str], list[dict[str, Any]]],
) -> Iterator[Any]:
    """The servers, up and answering."""
    spec = importlib.util.spec_from_file_location("played_host", HERE / "played_host.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    host = module.Host(rendered("overlays/local"), images, object_store)
    try:
        host.serve()
        yield host
    finally:
        host.remove()


@pytest.fixture
def client(host: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline's own account, from outside, as through a port-forward."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", host.address)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "pipeline")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", host.password)
    from tumorflow.tracking.connection import connect

    return connect()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_place: Path) -> Path:
    """A working folder with a source, in which every run is quick."""
    return Path(shutil.copytree(tiny_place, tmp_path_factory.mktemp("played") / "place"))


def command(host: Any, account: str, password: str, *arguments: str, **options: Any) -> Any:
    """Returns the ended command `tumorflow` of an account, from outside, as through a port-forward."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
        "MLFLOW_TRACKING_URI": host.address,
        "MLFLOW_TRACKING_USERNAME": account,
        "MLFLOW_TRACKING_PASSWORD": password,
        "TUMORFLOW_PSEUDONYM_KEY": "3c7a9e51f08b42d6a1c4e7f39b85d260",
        "RITA_PASSWORD": RITA_PASSWORD,
    }
    program = [str(Path(sys.executable).parent / "tumorflow"), *arguments]
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=False, **options)


def run(place: Path, host: Any) -> dict[str, Any]:
    """Returns the summary of a whole run that the played MLflow has tracked by the pipeline's account."""
    done = command(host, "pipeline", host.password, "run", "--source", "source", cwd=place)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return dict(json.loads((place / "runs" / "latest" / "summary.json").read_text()))


@pytest.fixture(scope="module")
def first(place: Path, host: Any) -> dict[str, Any]:
    """The summary of a first run of the whole pipeline."""
    return run(place, host)


def test_only_those_with_an_account_and_a_known_name_are_served(host: Any) -> None:
    from requests import get, post

    search = f"{host.address}/api/2.0/mlflow/experiments/search?max_results=1"
    account = ("pipeline", host.password)
    assert get(search, timeout=30).status_code == 401
    assert get(search, auth=("pipeline", "wrong-password-here"), timeout=30).status_code == 401
    assert get(search, auth=account, timeout=30).status_code == 200
    for name, status in (("tumorflow-mlflow.tumorflow:5000", 200), ("rebound.invalid", 403)):
        assert get(search, auth=account, headers={"Host": name}, timeout=30).status_code == status
    # a probe comes by the pod's address, which nothing but /health answers to
    probe = {"Host": "10.0.0.9:5000"}
    assert get(f"{host.address}/health", headers=probe, timeout=30).status_code == 200
    assert get(f"{host.address}/readyz", headers=probe, timeout=30).status_code == 403
    assert get(f"{host.address}/readyz", timeout=30).json() == {"ready": True, "unready": []}
    another = {"username": "another", "password": "password-of-another"}
    create = f"{host.address}/api/2.0/mlflow/users/create"
    assert post(create, json=another, auth=account, timeout=30).status_code == 403


def test_the_whole_pipeline_is_tracked_and_its_model_registered(
    first: dict[str, Any], client: Any, tmp_path: Path
) -> None:
    from tumorflow.tracking import registry

    assert first["decision"]["verdict"] == "accepted"
    (version,) = client.search_model_versions(f"name = '{MODEL}'")
    assert version.version == first["model"]["version"] == "1"
    assert client.get_model_version_by_alias(MODEL, "candidate").version == "1"
    experiment = client.get_experiment_by_name("tumorflow").experiment_id
    runs = client.search_runs([experiment], order_by=["attribute.start_time ASC"])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    steps = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert [run.info.run_name for run in steps] == CHAIN
    assert {run.info.status for run in runs} == {"FINISHED"}
    # through the server, with no key of the store
    assert version.run_id == steps[-1].info.run_id
    report = "evidence/evaluation/report.html"
    registry.fetch(client, MODEL, "1", tmp_path, ["model.keras", report])
    assert (tmp_path / "model.keras").read_bytes().startswith(b"PK")
    assert (tmp_path / report).read_bytes() == Path(first["artifacts"]["report"]).read_bytes()


def test_an_unchanged_run_does_no_step_again_and_registers_no_second_version(
    first: dict[str, Any], place: Path, host: Any, client: Any
) -> None:
    again = run(place, host)
    assert [(step["name"], step["cached"]) for step in again["steps"]] == [(name, True) for name in CHAIN]
    assert again["model"] == first["model"]
    assert [version.version for version in client.search_model_versions(f"name = '{MODEL}'")] == ["1"]


@pytest.fixture(scope="module")
def told(host: Any) -> Iterator[list[tuple[dict[str, str], bytes]]]:
    """Headers and body of each webhook that the played MLflow sends."""
    received: list[tuple[dict[str, str], bytes]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", host.receiver_port), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield received
        server.shutdown()


@pytest.fixture(scope="module")
def champion(
    first: dict[str, Any], host: Any, told: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The version that a reviewer, whose account is made as docs/cluster.md says, has approved."""
    accounts = tmp_path_factory.mktemp("accounts") / "accounts.yaml"
    accounts.write_text("- {name: rita, roles: [reviewer], password_from: RITA_PASSWORD}\n")
    applied = command(host, "admin", host.admin_password, "registry", "users", "apply", str(accounts))
    assert applied.returncode == 0, applied.stderr
    version = str(first["model"]["version"])
    approved = command(
        host, "rita", RITA_PASSWORD, "review", "approve", MODEL, version, "--reason", "all floors are cleared"
    )
    assert approved.returncode == 0, approved.stderr
    return version


def verify(host: Any, copies: int) -> str:
    """Returns what `tumorflow audit verify` says, once the store has the copies that the server makes."""
    deadline = time.monotonic() + 60
    while True:
        done = command(host, "rita", RITA_PASSWORD, "audit", "verify")
        assert done.returncode == 0, done.stdout + done.stderr
        if f"{copies} exported copies agree" in done.stdout or time.monotonic() > deadline:
            return str(done.stdout)
        time.sleep(1)


def test_the_account_of_the_pipeline_may_not_choose_the_champion(
    first: dict[str, Any], host: Any, client: Any
) -> None:
    from mlflow.exceptions import MlflowException

    version = str(first["model"]["version"])
    client.set_registered_model_alias(MODEL, "candidate", version)
    with pytest.raises(MlflowException, match="reviewer_decides"):
        client.set_registered_model_alias(MODEL, "champion", version)
    refused = command(
        host, "pipeline", host.password, "review", "approve", MODEL, version, "--reason", "mine"
    )
    assert refused.returncode != 0
    assert "reviewer_decides" in refused.stderr


def test_a_reviewer_chooses_it_and_the_audit_says_so(champion: str, host: Any, client: Any) -> None:
    assert client.get_model_version_by_alias(MODEL, "champion").version == champion
    shown = command(host, "rita", RITA_PASSWORD, "audit", "show", "--json").stdout.splitlines()
    entries = [(entry["action"], entry["actor"]) for entry in map(json.loads, shown)]
    # what the pipeline's account may do is in the audit from the first start on
    assert entries == [
        ("role_given", "tumorflow registry prepare"),
        ("registered", "pipeline"),
        ("role_given", "admin"),
        ("approved", "rita"),
    ]
    assert "4 exported copies agree" in verify(host, 4)


def test_a_receiver_is_told_of_the_champion_under_the_secret_of_the_cluster(
    champion: str, host: Any, told: list[tuple[dict[str, str], bytes]]
) -> None:
    from tumorflow.review.signature import verify

    deadline = time.monotonic() + 60
    while not told and time.monotonic() < deadline:
        time.sleep(0.2)
    headers, body = told[0]
    secret = host.secrets["tumorflow-webhook"]["TUMORFLOW_WEBHOOK_SECRET"]
    assert verify(secret, headers, body, time.time())
    decision = json.loads(body)
    assert (decision["action"], decision["actor"], decision["champion"]) == ("approved", "rita", champion)


def test_a_backup_restores_into_an_empty_database(champion: str, host: Any) -> None:
    content = (
        "SELECT (SELECT version || ' of ' || name FROM model_versions), "
        "(SELECT string_agg(run_uuid, ',' ORDER BY run_uuid) FROM runs), "
        "(SELECT string_agg(username, ',' ORDER BY username) FROM users), "
        "(SELECT string_agg(entry_hash, ',' ORDER BY sequence) FROM tumorflow_audit)"
    )
    host.finish(host.play("CronJob", "tumorflow-backup"))
    host.query("mlflow", "CREATE DATABASE restored")
    host.finish(host.play("CronJob", "tumorflow-restore", PGDATABASE="restored"))
    version, _, users, audit = host.query("restored", content).split("|")
    assert (version, users, audit.count(",")) == (f"{champion} of {MODEL}", "admin,pipeline,rita", 3)
    # over what is there: the same again, not the double
    host.finish(host.play("CronJob", "tumorflow-restore", PGDATABASE="restored"))
    assert host.query("restored", content) == host.query("mlflow", content)


def test_the_audit_is_whole_after_a_restore_and_only_grows(champion: str, host: Any, client: Any) -> None:
    host.finish(host.play("CronJob", "tumorflow-backup"))
    host.stop_pod("tumorflow-mlflow")
    host.finish(host.play("CronJob", "tumorflow-restore"))
    for change in ("UPDATE tumorflow_audit SET actor = 'rob'", "DELETE FROM tumorflow_audit"):
        # by the owner of the database, before any server has looked at the table
        assert "the audit is append-only" in host.query("mlflow", change, check=False)
    host.serve_mlflow()
    assert client.get_model_version_by_alias(MODEL, "champion").version == champion
    assert "whole; 4 entries" in verify(host, 4)


def test_what_is_tracked_outlives_the_servers(host: Any, client: Any, tmp_path: Path) -> None:
    (tmp_path / "evidence.txt").write_text("kept")
    experiment = client.create_experiment("outlives")
    run = client.create_run(experiment).info
    client.log_metric(run.run_id, "macro_f1", 0.5)
    client.log_artifact(run.run_id, str(tmp_path / "evidence.txt"))
    client.set_terminated(run.run_id)
    assert run.artifact_uri.startswith("mlflow-artifacts:/"), "clients need no key of the store"
    host.stop()
    host.serve()
    assert client.get_run(run.run_id).data.metrics == {"macro_f1": 0.5}
    fetched = client.download_artifacts(run.run_id, "evidence.txt", str(tmp_path / "fetched"))
    assert Path(fetched).read_text() == "kept"
