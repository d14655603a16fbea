"""The compose files of mlflow/, run by Debian's podman-compose: what they refuse, keep and show.

PostgreSQL's image is made of Debian's (tests/k8s/postgres.Dockerfile), since no registry need be in reach.
"""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from servers import find_free_port

ROOT = Path(__file__).parents[2]
POSTGRES = ROOT / "tests" / "k8s" / "postgres.Dockerfile"
POSTGRES_IMAGE = "localhost/tumorflow-test-postgres:15"
WITH_POSTGRES = ("-f", "compose.postgres.yaml")


def podman(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr[-2000:]
    return done.stdout.strip()


class Project:
    """The registry under a name and at a port of its own, with secrets of its own."""

    def __init__(self, image: str) -> None:
        self.name, self.port = f"tumorflow-test-{secrets.token_hex(3)}", find_free_port()
        self.secrets = {
            "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.token_urlsafe(24),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
        }
        self.settings = {
            "TUMORFLOW_MLFLOW_IMAGE": image,
            "TUMORFLOW_POSTGRES_IMAGE": POSTGRES_IMAGE,
            "TUMORFLOW_REGISTRY_PORT": str(self.port),
        }

    def compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PG"))}
        return subprocess.run(
            ["podman-compose", "-p", self.name, *arguments],
            cwd=ROOT / "mlflow",
            env={**plain, **self.settings, **self.secrets},
            capture_output=True,
            text=True,
            check=False,
        )

    def up(self, *files: str) -> str:
        """Returns what is printed, after waiting until the container calls itself healthy."""
        done = self.compose(*files, "up", "-d")
        assert done.returncode == 0, done.stderr[-2000:]
        server, deadline = f"{self.name}_mlflow_1", time.monotonic() + 120
        check = ["podman", "healthcheck", "run", server]
        while subprocess.run(check, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, podman("logs", server)[-3000:]
            time.sleep(0.5)
        return done.stdout + done.stderr

    def ask(self, method: str, path: str, **content: Any) -> requests.Response:
        account = ("admin", self.secrets["MLFLOW_AUTH_ADMIN_PASSWORD"])
        url = f"http://127.0.0.1:{self.port}/api/2.0/mlflow/{path}"
        return requests.request(method, url, auth=account, timeout=60, **content)

    def inspect(self, service: str) -> dict[str, Any]:
        (found,) = json.loads(podman("inspect", f"{self.name}_{service}_1"))
        return dict(found)

    def remove(self) -> None:
        for service in ("mlflow", "postgres"):
            podman("rm", "--force", "--time", "0", f"{self.name}_{service}_1", check=False)
        podman("volume", "rm", f"{self.name}_registry", f"{self.name}_postgres", check=False)
        podman("network", "rm", "--force", f"{self.name}_default", check=False)


@pytest.fixture
def project(built_images: Mapping[str, str]) -> Iterator[Project]:
    if not shutil.which("podman-compose") or not shutil.which("podman"):
        pytest.skip("needs Debian's podman and podman-compose")
    if subprocess.run(["podman", "image", "exists", built_images["mlflow"]], check=False).returncode:
        pytest.skip("podman-compose runs podman's images, and another engine has built them")
    project = Project(built_images["mlflow"])
    try:
        yield project
    finally:
        project.remove()


@pytest.mark.parametrize(
    ("missing", "files"),
    [
        ("MLFLOW_AUTH_ADMIN_PASSWORD", ()),
        ("MLFLOW_FLASK_SERVER_SECRET_KEY", ()),
        ("POSTGRES_PASSWORD", WITH_POSTGRES),
    ],
)
def test_nothing_starts_without_a_secret(project: Project, missing: str, files: tuple[str, ...]) -> None:
    project.secrets.pop(missing, None)
    done = project.compose(*files, "up", "-d")
    assert done.returncode != 0
    assert f"export {missing}, as made by openssl rand" in done.stderr.splitlines()[-1]
    assert not podman("ps", "--all", "--quiet", "--filter", f"name={project.name}")


def test_what_is_tracked_outlives_the_containers(project: Project) -> None:
    printed = project.up()
    assert [name for name, value in project.secrets.items() if value in printed] == []
    created = project.ask("POST", "experiments/create", json={"name": "kept"})
    assert created.status_code == 200, created.text
    location = requests.get(f"http://127.0.0.1:{project.port}/readyz", timeout=30)
    assert location.json() == {"ready": True, "unready": []}

    server = project.inspect("mlflow")
    assert server["Config"]["User"] == "10001"
    assert server["HostConfig"]["ReadonlyRootfs"] is True
    assert not server["EffectiveCaps"]
    assert server["HostConfig"]["PortBindings"]["5000/tcp"] == [
        {"HostIp": "127.0.0.1", "HostPort": str(project.port)}
    ]
    assert server["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"

    assert project.compose("down").returncode == 0
    assert not podman("ps", "--all", "--quiet", "--filter", f"name={project.name}")
    project.up()
    found = project.ask("GET", "experiments/get-by-name", params={"experiment_name": "kept"})
    assert found.json()["experiment"]["name"] == "kept"


def test_with_postgresql_the_tables_are_there(project: Project) -> None:
    command = ["podman", "build", "--quiet", "--pull-never", "--layers", "--tag", POSTGRES_IMAGE]
    built = subprocess.run(
        [*command, "--file", str(POSTGRES), str(POSTGRES.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    password = secrets.token_hex(24)
    project.secrets |= {"POSTGRES_PASSWORD": password, "PGPASSWORD": password}
    printed = project.up(*WITH_POSTGRES)
    assert [name for name, value in project.secrets.items() if value in printed] == []
    assert project.ask("POST", "experiments/create", json={"name": "kept"}).status_code == 200
    database = f"{project.name}_postgres_1"
    assert not project.inspect("postgres")["HostConfig"]["PortBindings"], "only the server reaches it"
    client = ["psql", "-h", "127.0.0.1", "-U", "mlflow", "-tAc", "SELECT name FROM experiments ORDER BY 1"]
    names = podman("exec", "--env", f"PGPASSWORD={password}", database, *client)
    assert names.split() == ["Default", "kept"]
