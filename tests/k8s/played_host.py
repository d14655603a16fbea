"""One host in the place of a cluster: pods of rendered manifests, run by `podman kube play`."""

import base64
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
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


def podman(*arguments: str, given: str | None = None, check: bool = True) -> str:
    done = subprocess.run(["podman", *arguments], input=given, capture_output=True, text=True, check=False)
    if check and done.returncode:
        pytest.fail(f"podman {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Host:
    """A network of its own, Secrets, and pods at known addresses.

    `images` tells by a word of a rendered image's name which image runs in its place. `store` has the
    variables of an object store on loopback; without it, the manifests' own is played.
    """

    def __init__(
        self, manifests: list[Manifest], images: Mapping[str, str], store: Mapping[str, str] | None
    ) -> None:
        self.name = f"tumorflow-test-{secrets.token_hex(3)}"
        podman("network", "create", self.name)
        (network,) = json.loads(podman("network", "inspect", self.name))
        gateway = network["subnets"][0]["gateway"]
        own = gateway.rpartition(".")[0]
        self.images = images
        self.addresses = {"tumorflow-postgres": f"{own}.10"} | (
            {} if store else {"tumorflow-s3": f"{own}.11"}
        )
        self.port = free_port()
        self.manifests = deepcopy(manifests)
        self.password, self.admin_password = secrets.token_hex(12), secrets.token_hex(12)
        key, secret = (
            (store["AWS_ACCESS_KEY_ID"], store["AWS_SECRET_ACCESS_KEY"])
            if store
            else (secrets.token_hex(10), secrets.token_hex(24))
        )
        owner = {"accessKey": key, "secretKey": secret}
        identities = {"identities": [{"name": "mlflow", "credentials": [owner], "actions": ["Admin"]}]}
        self.secrets = {
            "tumorflow-mlflow-db": {"PGPASSWORD": secrets.token_hex(12)},
            "tumorflow-s3": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
            "tumorflow-s3-identities": {"s3.json": json.dumps(identities)},
            "tumorflow-mlflow": {
                "username": "pipeline",
                "password": self.password,
                "MLFLOW_AUTH_ADMIN_PASSWORD": self.admin_password,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
            },
            "tumorflow-webhook": {"TUMORFLOW_WEBHOOK_SECRET": secrets.token_hex(32)},
        }
        self.names = {
            "tumorflow-postgres": self.addresses["tumorflow-postgres"],
            "tumorflow-s3.tumorflow": self.addresses.get("tumorflow-s3", gateway),
        }
        self.receiver_port = free_port()
        """Where the test may listen, on loopback, for what MLflow says of a new champion."""
        self.settings = {"TUMORFLOW_WEBHOOK_URLS": f"http://{gateway}:8700/champion"}
        self.relays = [self.reach(gateway, "8700", str(self.receiver_port))]
        if store:
            self.relays.append(self.reach(gateway, "8333", store["AWS_ENDPOINT_URL"].rpartition(":")[2]))

    def reach(self, gateway: str, port: str, own: str) -> "subprocess.Popen[str]":
        """Lets pods reach what listens on loopback, through the network's gateway."""
        relay = subprocess.Popen(
            [sys.executable, "-c", RELAY, gateway, port, own], stdout=subprocess.PIPE, text=True
        )
        assert relay.stdout is not None
        assert relay.stdout.readline() == "ready\n"
        return relay

    def template(self, kind: str, name: str) -> Manifest:
        (found,) = (m for m in self.manifests if m["kind"] == kind and m["metadata"]["name"] == name)
        spec = found["spec"]
        return deepcopy((spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"])

    def image(self, rendered: str) -> str:
        return next(image for word, image in self.images.items() if word in rendered)

    def configured(self, settings: Mapping[str, str]) -> list[Manifest]:
        """Returns the ConfigMaps, with other values for the settings that they have."""
        found = [deepcopy(m) for m in self.manifests if m["kind"] == "ConfigMap"]
        # the store may be others', too
        own = f"s3://tumorflow/{self.name}"
        places = {"BACKUP_DESTINATION": own, "MLFLOW_ARTIFACTS_DESTINATION": f"{own}/mlflow"}
        settings = {**places, **self.settings, **settings}
        for manifest in found:
            manifest["data"].update(
                {key: value for key, value in settings.items() if key in manifest["data"]}
            )
        return found

    def play(self, kind: str, name: str, **settings: str) -> str:
        """Returns the name of the pod that runs this, once its init containers have ended."""
        pod = f"{self.name}-{name}"
        spec = self.template(kind, name)["spec"]
        spec["restartPolicy"] = "Never"  # podman would restart init containers, too, that have ended well
        spec["hostAliases"] = [{"ip": ip, "hostnames": [alias]} for alias, ip in self.names.items()]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            container["image"] = self.image(container["image"])
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
        configured = self.configured(settings)
        for volume in spec["volumes"]:
            volume["name"] = f"{pod}-{volume['name']}"  # podman shares an emptyDir among pods by its name
            if claim := volume.get("persistentVolumeClaim"):
                claim["claimName"] = f"{self.name}-{claim['claimName']}"
                # whose the node's folder is; one that is there stays
                owner = "o=uid={runAsUser},gid={runAsGroup}".format(**spec["securityContext"])
                podman("volume", "create", "--opt", owner, claim["claimName"], check=False)
            if secret := volume.pop("secret", None):  # podman 4.3 breaks on one
                volume["configMap"] = {"name": (held := secret["secretName"])}
                configured.append(
                    {
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "metadata": {"name": held},
                        "data": self.secrets[held],
                    }
                )
        documents = [
            *configured,
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec},
        ]
        self.keep_secrets()
        place = ["--ip", self.addresses[name]] if name in self.addresses else []
        command = ["podman", "kube", "play", "--network", self.name, *place, "-"]
        text = yaml.safe_dump_all(documents)
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            others = "\n".join(self.logs(f"{self.name}-{other}") for other in self.addresses if other != name)
            pytest.fail(f"{done.stderr[-1000:]}\n{self.logs(pod)}\n{others}")
        return pod

    def finish(self, pod: str) -> None:
        """Waits for a job's pod and removes it; fails with its output where it failed."""
        names = podman("ps", "--all", "--filter", f"pod={pod}", "--format", "{{.Names}}").split()
        (container,) = (name for name in names if not name.endswith("-infra"))
        status, output = podman("wait", container), self.logs(pod)
        podman("pod", "rm", "--force", pod)
        assert status == "0", output

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
        """Starts PostgreSQL, the store and MLflow."""
        for name in self.addresses:
            self.play("StatefulSet", name)
        self.serve_mlflow()

    def serve_mlflow(self) -> None:
        """Starts MLflow, and waits until its startup probe is answered."""
        import requests

        self.play("Deployment", "tumorflow-mlflow")
        (container,) = self.template("Deployment", "tumorflow-mlflow")["spec"]["containers"]
        probe = container["startupProbe"]["httpGet"]
        headers = {header["name"]: header["value"] for header in probe["httpHeaders"]}
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                if requests.get(self.address + probe["path"], headers=headers, timeout=20).ok:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.5)
        pytest.fail(self.logs(f"{self.name}-tumorflow-mlflow"))

    def stop(self) -> None:
        for name in ("tumorflow-mlflow", *self.addresses):
            self.stop_pod(name)

    def stop_pod(self, name: str) -> None:
        # as long as Kubernetes waits; SeaweedFS takes 20 s to end by itself
        podman("pod", "stop", "--time", "30", f"{self.name}-{name}", check=False)
        podman("pod", "rm", "--force", f"{self.name}-{name}", check=False)

    def query(self, database: str, statement: str, *, check: bool = True) -> str:
        """Returns what PostgreSQL answers, a refusal too, by its own client inside its container."""
        password = f"PGPASSWORD={self.secrets['tumorflow-mlflow-db']['PGPASSWORD']}"
        container = f"{self.name}-tumorflow-postgres-postgres"
        client = f'exec psql -h 127.0.0.1 -U mlflow -d {database} -tAc "$0" 2>&1'
        return podman("exec", "--env", password, container, "sh", "-c", client, statement, check=check)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def remove(self) -> None:
        self.stop()
        for pod in podman("pod", "ps", "--format", "{{.Name}}").split():
            if pod.startswith(self.name):
                podman("pod", "rm", "--force", pod, check=False)
        volumes = [name for name in podman("volume", "ls", "--quiet").split() if name.startswith(self.name)]
        podman("volume", "rm", "--force", *volumes, check=False)
        podman("network", "rm", "--force", self.name, check=False)
        podman("secret", "rm", *self.secrets, check=False)
        for relay in self.relays:
            with relay:
                relay.terminate()
