"""Stops MLflow or the object store in the middle of runs, and counts what was lost: nothing should be.

    python tests/bench/outages.py [--runs 8] [--seed 1] [--away 30]

Each time a fresh folder and a fresh MLflow server, which keeps its artifacts in the object store, as the
source is there. A server is stopped at a random moment of one step, and started again so many seconds
later; then the run is repeated. Both must end with the results of an undisturbed run, leave nothing
half-written, register one version with all its files, and leave no run in MLflow open or doubled; the
disturbed run may fail instead, if it says why.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faults import SOUND, STEPS, Result, Setup, check, disturb, result, run, write_source

MLFLOW = str(Path(sys.executable).parent / "mlflow")
OBJECT_STORE = Path(__file__).parents[2].parent / "shared" / "tools" / "object-store"
SOURCE_BUCKET, MLFLOW_BUCKET = "source", "mlflow"
START_S = 120
CHECKSUMS = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
"""Settings of boto3; a store beside AWS does not know its newer checksums."""
CASES = (*(("MLflow", step) for step in STEPS), ("object store", "ingest"), ("object store", "export"))
"""The store is read by ingest, and written through MLflow by those that keep files there, export the most."""


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing disturbed."""

    result: Result
    step_s: Mapping[str, float]
    seconds: float


class ObjectStore:
    """A real S3 server in a folder, on ports of its own."""

    def __init__(self, home: Path) -> None:
        self.variables = {"OBJECT_STORE_HOME": str(home), "OBJECT_STORE_PORT": str(free_ports(4))}
        self.settings: dict[str, str] = {}
        installed = Path(tempfile.gettempdir()) / "object-store" / "venv"
        if installed.is_dir():  # else it is installed anew, which takes a minute
            home.mkdir()
            (home / "venv").symlink_to(installed)

    def start(self) -> None:
        """Returns when it answers."""
        told = dict(line.removeprefix("export ").split("=", 1) for line in self._run("start").splitlines())
        self.settings = {**told, **dict.fromkeys(CHECKSUMS, "when_required")}

    def stop(self) -> None:
        """Returns when it is gone; what it was doing is lost."""
        self._run("stop")
        wait_until(lambda: not listens(int(self.variables["OBJECT_STORE_PORT"])))

    def _run(self, what: str) -> str:
        environment = {**os.environ, **self.variables}
        return subprocess.check_output([OBJECT_STORE, what], env=environment, text=True)


class Mlflow:
    """MLflow with a sqlite store in a folder and artifacts in the object store, which pass through it."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        self.home, self.port = home, free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.variables = {
            **os.environ,
            **settings,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        options = {
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": "1",
            "--backend-store-uri": f"sqlite:///{self.home}/mlflow.db",
            "--artifacts-destination": f"s3://{MLFLOW_BUCKET}/{self.home.parent.name}",
        }
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [MLFLOW, "server", *(part for option in options.items() for part in option)],
                env=self.variables,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: healthy(self.url))

    def stop(self) -> None:
        """Kills the server and its workers."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            wait_until(lambda: not listens(self.port))


def free_ports(count: int) -> int:
    """Returns the first of so many ports in a row that nobody listens on."""
    for first in range(20000 + os.getpid() % 1000 * 10, 32000, count):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no free ports in a row")


def listens(port: int) -> bool:
    """Returns whether somebody takes connections on a port of this machine."""
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def healthy(url: str) -> bool:
    """Returns whether MLflow answers there."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def wait_until(done: Callable[[], bool]) -> None:
    """Returns when it is so.

    Raises:
        TimeoutError: it took too long.
    """
    until = time.monotonic() + START_S
    while not done():
        if time.monotonic() > until:
            raise TimeoutError("a server did not start or stop")
        time.sleep(0.1)


def fill(settings: Mapping[str, str], folder: Path) -> None:
    """Makes the buckets, and puts the source into one."""
    import boto3
    from botocore.config import Config

    client = boto3.session.Session().client(
        "s3",
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        region_name=settings["AWS_DEFAULT_REGION"],
        config=Config(request_checksum_calculation="when_required"),
    )
    client.create_bucket(Bucket=SOURCE_BUCKET)
    client.create_bucket(Bucket=MLFLOW_BUCKET)
    for path in folder.rglob("*.png"):
        client.put_object(
            Bucket=SOURCE_BUCKET, Key=f"ct/{path.relative_to(folder).as_posix()}", Body=path.read_bytes()
        )


@contextlib.contextmanager
def started(place: Path, settings: Mapping[str, str]) -> Iterator[Mlflow]:
    """Yields a fresh MLflow server, which keeps what it knows below a new folder `place`."""
    home = place / "server"
    home.mkdir(parents=True)
    server = Mlflow(home, settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def served_by(store: ObjectStore, mlflow: Mlflow) -> Setup:
    """Returns how runs are started that read from the store and are tracked by the server."""
    variables = {**store.settings, "MLFLOW_TRACKING_URI": mlflow.url}
    return Setup(f"s3://{SOURCE_BUCKET}/ct", variables=variables)


def observe(place: Path, store: ObjectStore) -> Undisturbed:
    """Returns what a run does that nothing disturbs.

    Raises:
        RuntimeError: it failed.
    """
    with started(place, store.settings) as mlflow:
        setup = served_by(store, mlflow)
        began = time.monotonic()
        ran = run(place, setup)
        took_s = time.monotonic() - began
        if ran.returncode != 0:
            raise RuntimeError(ran.stdout + ran.stderr)
        return Undisturbed(result(place, mlflow.url), step_seconds(ran.stdout), took_s)


def be_away(server: ObjectStore | Mlflow, away_s: float) -> None:
    """Stops a server, and starts it again so many seconds later."""
    server.stop()
    time.sleep(away_s)
    server.start()


def step_seconds(said: str) -> dict[str, float]:
    """Returns how long each step of a run took, fetching and tracking included."""
    return {name: float(took) for name, took in re.findall(r"^(\w+): done in ([\d.]+) s", said, re.MULTILINE)}


def reasons(said: str) -> str:
    """Returns why a run failed, as it says itself."""
    return " ".join(line for line in said.splitlines() if line.startswith("tumorflow: "))


def suffer(
    place: Path,
    store: ObjectStore,
    case: tuple[str, str],
    moment: float,
    away_s: float,
    undisturbed: Undisturbed,
) -> tuple[int, str, list[str]]:
    """Returns how a run ended whose server went away, in a number and in words, and what was lost."""
    away, step = case
    with started(place, store.settings) as mlflow:
        setup = served_by(store, mlflow)
        server = mlflow if away == "MLflow" else store
        after_s = moment * undisturbed.step_s[step]
        began = time.monotonic()
        ran = disturb(place, setup, step, after_s, partial(be_away, server, away_s))
        took_s = time.monotonic() - began
        why = reasons(ran.stdout)
        faults = check(place, undisturbed.result, mlflow.url) if ran.returncode == 0 else []
        if ran.returncode != 0 and not why:
            faults = ["no reason"]
        again = run(place, setup)
        faults += [f"rerun: exit code {again.returncode}"] if again.returncode else []
        if again.returncode == 0:
            faults += [f"rerun: {fault}" for fault in check(place, undisturbed.result, mlflow.url)]
    told = f"{away} away {after_s:.1f} s into {step}: exit code {ran.returncode} after {took_s:.0f} s"
    return ran.returncode, f"{told} ({why})" if why else told, faults


def main() -> int:
    """Returns 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description="stop servers at random and count what was lost")
    parser.add_argument("--runs", type=int, default=len(CASES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--away", type=float, default=30, help="seconds until it is started again")
    given = parser.parse_args()
    if not OBJECT_STORE.is_file():
        print("skipped: needs a real S3 server, and ../shared/tools/object-store is not here")
        return 0
    moments = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="tumorflow-outages-") as folder:
        store = ObjectStore(Path(folder) / "store")
        store.start()
        try:
            return count(Path(folder), store, given.runs, given.away, moments)
        finally:
            store.stop()


def count(folder: Path, store: ObjectStore, runs: int, away_s: float, moments: random.Random) -> int:
    """Returns 0 if no run lost anything; tells each."""
    write_source(folder / "pictures")
    fill(store.settings, folder / "pictures")
    undisturbed = observe(folder / "reference", store)
    print(f"undisturbed: {undisturbed.seconds:.0f} s", flush=True)
    lost = failed = 0
    for number in range(runs):
        case = CASES[number % len(CASES)]
        place = folder / f"run-{number:02}"
        code, told, faults = suffer(place, store, case, moments.random(), away_s, undisturbed)
        failed += code != 0
        lost += bool(faults)
        print(f"{told}, then {'; '.join(faults) or SOUND}", flush=True)
    print(f"{runs} outages of {away_s:.0f} s, {failed} of them ended the run; {lost} runs lost something")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
