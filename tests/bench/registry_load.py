"""What the policy costs the registry's server: requests a second with it, and with accounts alone."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import requests

sys.path.append(str(Path(__file__).parents[1]))  # servers.py, as pytest finds it
from servers import ADMIN_PASSWORD, Registry, find_free_port, make_registry

MLFLOW = str(Path(sys.executable).parent / "mlflow")
CLIENTS, REQUESTS, ROUNDS, VERSIONS = 4, 400, 7, 30


def measure(scratch: Path) -> tuple[list[float], list[float]]:
    """Returns the requests a second of each round, with the policy and without: one database, in turns."""
    with_policy = make_registry(scratch)
    with_policy.start()
    without = Registry(scratch, find_free_port(), with_policy.environment)
    try:
        with_policy.make_accounts()
        for _ in range(VERSIONS):
            with_policy.register("loaded")
        start_without_policy(without)
        rounds = [(run_round(with_policy), run_round(without)) for _ in range(ROUNDS + 1)][
            1:
        ]  # one to warm up
    finally:
        with_policy.kill()
        without.kill()
    return [one for one, _ in rounds], [other for _, other in rounds]


def start_without_policy(registry: Registry) -> None:
    """Starts MLflow's own app on the same database and accounts."""
    environment = {
        **os.environ,
        **registry.environment,
        "MLFLOW_AUTH_CONFIG_PATH": str(registry.folder / "accounts.ini"),
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (registry.folder / "without.log").open("ab") as log:
        registry.process = subprocess.Popen(
            [MLFLOW, "server", "--app-name", "basic-auth", "--port", str(registry.port), "--workers", "2"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if requests.get(f"{registry.url}/health", timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise TimeoutError((registry.folder / "without.log").read_text()[-2000:])


def run_round(registry: Registry) -> float:
    """Returns how many searches a second a server answers, asked by some clients at once."""

    def ask(count: int) -> None:
        with requests.Session() as session:
            session.auth = ("admin", ADMIN_PASSWORD)
            for _ in range(count):
                answer = session.get(
                    f"{registry.url}/api/2.0/mlflow/model-versions/search",
                    params={"filter": "name = 'loaded'", "max_results": 10},
                    timeout=60,
                )
                answer.raise_for_status()

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, [REQUESTS // CLIENTS] * CLIENTS))
    return REQUESTS / (time.perf_counter() - began)


def describe(with_policy: list[float], without: list[float]) -> tuple[float, str]:
    """Returns the cost as a fraction of the throughput, and both sides: medians of rounds taken in turn."""
    cost = 1 - median(one / other for one, other in zip(with_policy, without, strict=True))
    return cost, f"{median(with_policy):.0f} against {median(without):.0f} requests/s"
