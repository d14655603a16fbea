"""A real S3 server on loopback, and buckets in it that no other test uses."""

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[2].parent / "shared" / "tools" / "object-store"
INSTALLED = Path(os.environ.get("OBJECT_STORE_HOME") or Path(tempfile.gettempdir()) / "object-store")


class Server:
    """The server that the tool starts, in a folder and on ports of its own."""

    def __init__(self, home: Path) -> None:
        self.environment = {**os.environ, "OBJECT_STORE_HOME": str(home), "OBJECT_STORE_PORT": free_ports()}
        self.settings: dict[str, str] = {}

    def start(self) -> None:
        told = self._run("start")
        self.settings = dict(line.removeprefix("export ").split("=", 1) for line in told.splitlines())

    def stop(self) -> None:
        self._run("stop")

    def _run(self, command: str) -> str:
        ran = subprocess.run(
            [TOOL, command], env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return ran.stdout


def free_ports() -> str:
    """Returns the first of four ports in a row that nobody listens on."""
    for first in range(20000 + os.getpid() % 1000 * 10, 32000, 4):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + 4):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return str(first)
    raise RuntimeError("no four free ports in a row")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not TOOL.is_file():
        pytest.skip("needs a real S3 server: ../shared/tools/object-store is not here")
    home = tmp_path_factory.mktemp("object-store")
    if (INSTALLED / "venv" / "bin" / "swift-proxy-server").is_file():
        (home / "venv").symlink_to(INSTALLED / "venv")
    server = Server(home)
    try:
        server.start()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs a real S3 server: object-store start ended with {error.returncode}")
    try:
        yield server
    finally:
        server.stop()


class Bucket:
    """A new bucket in the server."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        client.create_bucket(Bucket=self.name)

    def put(self, key: str, content: bytes = b"x") -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


@pytest.fixture
def away_from_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests counts."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "DVC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder in which everything temporary is made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def bucket(server: Server, away_from_home: None, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    import boto3
    from botocore.config import Config

    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    config = Config(request_checksum_calculation="when_required", max_pool_connections=16)
    return Bucket(boto3.session.Session().client("s3", config=config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few files, some in folders, one empty, one with a name that is not ASCII."""
    return write_files(tmp_path / "data")


def write_files(folder: Path) -> Path:
    contents = {"a.txt": b"a", "inner/b.bin": bytes(range(256)), "inner/deep/ü +%2e.txt": b"c", "empty": b""}
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def run(command: str, folder: Path) -> str:
    """Returns what a command of this environment prints."""
    program, *arguments = shlex.split(command)
    installed = Path(sys.executable).parent / program
    ran = subprocess.run(
        [installed if installed.exists() else program, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(ran.stdout)
    return ran.stdout.strip()


@pytest.fixture(name="run")
def run_fixture() -> Any:
    return run


@pytest.fixture(scope="session")
def first_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    write_files(root / "data")
    run("git init -q -b main", root)
    run("git config user.name t", root)
    run("git config user.email t@example.org", root)
    run("dvc init -q", root)
    run("dvc add -q data", root)
    run("git add -A", root)
    run("git commit -qm first", root)
    run("git tag v1", root)
    return root


@pytest.fixture
def project(first_project: Path, tmp_path: Path, away_from_home: None) -> Path:
    """A git repository whose `data` DVC keeps, in its own cache; tagged v1."""
    return Path(shutil.copytree(first_project, tmp_path / "project"))
