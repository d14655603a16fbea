"""PostgreSQL and MLflow of the local overlay, as rendered, run here by `podman kube play`.

What one host's podman cannot do is replaced, and only that: PostgreSQL is Debian's in an image made here
(postgres.Dockerfile), since no registry need be in reach; SeaweedFS is the object store of the other tests;
claims are podman's volumes; probes are left to the test; a Deployment is its one pod. MLflow's image is the
one that `make images` builds; TUMORFLOW_TEST_MLFLOW_IMAGE names another.
"""

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]
Rendered = Callable[[str], list[Manifest]]

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
OBJECT_STORE = ROOT.parent / "shared" / "tools" / "object-store"
MLFLOW_IMAGE = os.environ.get("TUMORFLOW_TEST_MLFLOW_IMAGE", "localhost/tumorflow-mlflow:0.1.0")
POSTGRES_IMAGE = "localhost/tumorflow-test-postgres:15"
BASE_IMAGE = "docker.io/library/python:3.11-slim"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def podman(*arguments: str, given: str | None = None, check: bool = True) -> str:
    done = subprocess.run(["podman", *arguments], input=given, capture_output=True, text=True, check=False)
    if check and done.returncode:
        pytest.fail(f"podman {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def images() -> None:
    if not shutil.which("podman"):
        pytest.skip("no podman")
    if subprocess.run(["podman", "image", "exists", MLFLOW_IMAGE], check=False).returncode:
        pytest.skip(f"no image {MLFLOW_IMAGE}: make images")
    if subprocess.run(["podman", "image", "exists", BASE_IMAGE], check=False).returncode:
        pytest.skip(f"no image {BASE_IMAGE}, from which the test makes PostgreSQL's")
    file = str(HERE / "postgres.Dockerfile")
    podman("build", "--quiet", "--pull-never", "--layers", "--tag", POSTGRES_IMAGE, "--file", file, str(HERE))


@pytest.fixture(scope="module")
def object_store() -> dict[str, str]:
    """Returns the variables under which a real S3 server answers on loopback."""
    if not OBJECT_STORE.exists():
        pytest.skip(f"no {OBJECT_STORE.name} beside the repository")
    printed = subprocess.run([OBJECT_STORE, "start"], capture_output=True, text=True, check=True).stdout
    return dict(line.removeprefix("export ").split("=", 1) for line in printed.splitlines())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


RELAY = """
import asyncio, socket, sys
async def pipe(reader, writer):
    while data := await reader.read(65536):
        writer.write(data); await writer.drain()
    writer.close()
async def serve(reader, writer):
    inner = await asyncio.open_connection("127.0.0.1", int(sys.argv[3]))
    await asyncio.gather(pipe(reader, inner[1]), pipe(inner[0], writer), return_exceptions=True)
async def main():
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND: the address comes with the first container
    door.bind((sys.argv[1], int(sys.argv[2])))
    async with await asyncio.start_server(serve, sock=door) as server:
        print("ready", flush=True); await server.serve_forever()
asyncio.run(main())
"""


class Host:
    """One host in the place of a cluster: a network of its own, Secrets, and pods at known addresses."""

    def __init__(self, manifests: list[Manifest], store: dict[str, str]) -> None:
        self.name = f"tumorflow-test-{secrets.token_hex(3)}"
        podman("network", "create", self.name)
        (network,) = json.loads(podman("network", "inspect", self.name))
        (subnet,) = network["subnets"]
        gateway = subnet["gateway"]
        self.postgres = gateway.rpartition(".")[0] + ".10"
        self.names = {"tumorflow-postgres": self.postgres, "tumorflow-s3.tumorflow": gateway}
        self.port = free_port()
        self.manifests = deepcopy(manifests)
        self.password = secrets.token_hex(12)
        self.secrets = {
            "tumorflow-mlflow-db": {"PGPASSWORD": secrets.token_hex(12)},
            "tumorflow-s3": {key: store[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
            "tumorflow-mlflow": {
                "username": "pipeline",
                "password": self.password,
                "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.token_hex(12),
                "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
            },
        }
        # pods reach the store, which listens on loopback, through the network's gateway
        inner = store["AWS_ENDPOINT_URL"].rpartition(":")[2]
        self.relay = subprocess.Popen(
            [sys.executable, "-c", RELAY, gateway, "8333", inner], stdout=subprocess.PIPE, text=True
        )
        assert self.relay.stdout is not None
        assert self.relay.stdout.readline() == "ready\n"

    def template(self, kind: str, name: str) -> Manifest:
        (found,) = (m for m in self.manifests if m["kind"] == kind and m["metadata"]["name"] == name)
        spec = found["spec"]
        return deepcopy((spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"])

    def play(self, kind: str, name: str, address: str = "", **settings: str) -> str:
        """Returns the name of the pod that runs this; settings change the database's ConfigMap."""
        template = self.template(kind, name)
        pod = f"{self.name}-{name}"
        spec = template["spec"]
        spec["restartPolicy"] = "Never"  # podman would restart init containers, too, that have ended well
        spec["hostAliases"] = [{"ip": ip, "hostnames": [alias]} for alias, ip in self.names.items()]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            container["image"] = POSTGRES_IMAGE if "postgres" in container["image"] else MLFLOW_IMAGE
            container["imagePullPolicy"] = "Never"
            for probe in PROBES:
                container.pop(probe, None)
            # podman 4 does not hand a pod's users down to its containers
            for key in ("runAsUser", "runAsGroup"):
                container["securityContext"][key] = spec["securityContext"][key]
            ports = container.pop("ports", [])  # podman would publish each to everybody
            if name == "tumorflow-mlflow" and ports:
                container["ports"] = [{**ports[0], "hostIP": "127.0.0.1", "hostPort": self.port}]
            for mount in container["volumeMounts"]:
                mount["name"] = f"{pod}-{mount['name']}"
        for volume in spec["volumes"]:
            volume["name"] = f"{pod}-{volume['name']}"  # podman shares an emptyDir among pods by its name
            if "persistentVolumeClaim" in volume:
                volume["persistentVolumeClaim"]["claimName"] = f"{self.name}-data"
        configured = [deepcopy(m) for m in self.manifests if m["kind"] == "ConfigMap"]
        for manifest in configured:
            if manifest["metadata"]["name"].startswith("tumorflow-database"):
                manifest["data"].update(settings)
        documents = [
            *configured,
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec},
        ]
        self.keep_secrets()
        place = ["--ip", address] if address else []
        command = ["podman", "kube", "play", "--network", self.name, *place, "-"]
        text = yaml.safe_dump_all(documents)
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            others = self.logs(f"{self.name}-tumorflow-postgres")
            pytest.fail(f"{done.stderr[-1000:]}\n{self.logs(pod)}\n{others}")
        return pod

    def logs(self, pod: str) -> str:
        """Returns the last of what each container of a pod has printed."""
        names = podman("ps", "--all", "--filter", f"pod={pod}", "--format", "{{.Names}}").split()
        outputs = [
            subprocess.run(
                ["podman", "logs", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
            )
            for name in names
        ]
        return "\n".join(f"{n}: {o.stdout.decode()[-3000:]}" for n, o in zip(names, outputs, strict=True))

    def keep_secrets(self) -> None:
        """Puts the Secrets where podman 4.3 looks for them: a JSON object of base64 values each."""
        podman("secret", "rm", *self.secrets, check=False)
        for name, data in self.secrets.items():
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
            podman("secret", "create", name, "-", given=json.dumps(encoded))

    def serve(self) -> None:
        """Starts PostgreSQL and MLflow and waits until they answer."""
        import requests

        self.play("StatefulSet", "tumorflow-postgres", self.postgres)
        self.play("Deployment", "tumorflow-mlflow")
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                if requests.get(f"{self.address}/health", timeout=5).ok:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.5)
        pytest.fail(self.logs(f"{self.name}-tumorflow-mlflow"))

    def stop(self) -> None:
        for name in ("tumorflow-mlflow", "tumorflow-postgres"):
            podman("pod", "stop", "--time", "20", f"{self.name}-{name}", check=False)
            podman("pod", "rm", "--force", f"{self.name}-{name}", check=False)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def remove(self) -> None:
        self.stop()
        for pod in podman("pod", "ps", "--format", "{{.Name}}").split():
            if pod.startswith(self.name):
                podman("pod", "rm", "--force", pod, check=False)
        volumes = podman("volume", "ls", "--quiet").split()
        podman(
            "volume", "rm", "--force", *(name for name in volumes if name.startswith(self.name)), check=False
        )
        podman("network", "rm", "--force", self.name, check=False)
        podman("secret", "rm", *self.secrets, check=False)
        with self.relay:
            self.relay.terminate()


@pytest.fixture(scope="module")
def host(images: None, object_store: dict[str, str], rendered: Rendered) -> Iterator[Host]:
    host = Host(rendered("overlays/local"), object_store)
    try:
        host.serve()
        yield host
    finally:
        host.remove()


@pytest.fixture
def client(host: Host, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline's own account, from outside, as through a port-forward."""
    from mlflow import MlflowClient

    for direction in ("DOWNLOAD", "UPLOAD"):  # as connect.sh says: the store's name is the cluster's
        monkeypatch.setenv(f"MLFLOW_ENABLE_PROXY_MULTIPART_{direction}", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "pipeline")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", host.password)
    return MlflowClient(tracking_uri=host.address, registry_uri=host.address)


def test_only_those_with_an_account_and_a_known_name_are_served(host: Host) -> None:
    import requests

    search = f"{host.address}/api/2.0/mlflow/experiments/search?max_results=1"
    account = ("pipeline", host.password)
    assert requests.get(search, timeout=30).status_code == 401
    assert requests.get(search, auth=("pipeline", "wrong-password-here"), timeout=30).status_code == 401
    assert requests.get(search, auth=account, timeout=30).status_code == 200
    for name, status in (("tumorflow-mlflow.tumorflow:5000", 200), ("rebound.invalid", 403)):
        assert requests.get(search, auth=account, headers={"Host": name}, timeout=30).status_code == status
    # a probe comes by the pod's address
    assert (
        requests.get(f"{host.address}/health", headers={"Host": "10.0.0.9:5000"}, timeout=30).status_code
        == 200
    )


def test_what_is_tracked_outlives_the_servers(host: Host, client: Any, tmp_path: Path) -> None:
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
