"""What tests anywhere share: a tiny place to work in; a container engine and the images; PostgreSQL."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tumorflow import __version__

ROOT = Path(__file__).parents[1]
BASE = "docker.io/library/python:3.11-slim"


@dataclass(frozen=True)
class Engine:
    """A container engine that answers."""

    command: str

    def run(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Returns the finished command, output and all, whatever its exit code."""
        return subprocess.run(
            [self.command, *arguments], capture_output=True, text=True, check=False, timeout=timeout_s
        )


@pytest.fixture(scope="session")
def container_engine() -> Engine:
    """The engine that answers and has or can get the base image; skips, saying so, where there is none."""
    for command in ("docker", "podman"):
        if shutil.which(command) and Engine(command).run("info").returncode == 0:
            engine = Engine(command)
            break
    else:
        pytest.skip("neither docker nor podman answers here")
    if engine.run("image", "inspect", BASE).returncode != 0:
        pulled = engine.run("pull", "--quiet", BASE)
        if pulled.returncode != 0:
            pytest.skip(f"{BASE} is not here, and no registry gives it")
    return engine


@pytest.fixture(scope="session")
def build_images(container_engine: Engine) -> Callable[..., Mapping[str, str]]:
    """Builds the three images from this checkout: from the registry and variables to each image's name."""

    def build(registry: str, **variables: str) -> dict[str, str]:
        built = subprocess.run(
            [str(ROOT / "components" / "images.sh")],
            env={**os.environ, "REGISTRY": registry, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
        names = ("light", "tensorflow", "serving", "mlflow")
        return {name: f"{registry}/tumorflow-{name}:{__version__}" for name in names}

    return build


@pytest.fixture(scope="session")
def built_images(build_images: Callable[..., Mapping[str, str]]) -> Mapping[str, str]:
    """`light`, `tensorflow`, `serving` and `mlflow`: each image's name, after building it from this checkout.

    Seconds from a warm cache; CI builds before the tests, so that a cold build is in nobody's time limit.
    """
    return build_images("localhost")


QUICK = """\
preprocess: {image_size_px: 32}
train: {weights: none, epochs: 2}
evaluate:
  bootstrap_resamples: 100
  gradcam_slices: 1
  min_macro_f1: 0.0
  min_macro_auc: 0.0
  min_class_recall: 0.0
  max_calibration_error: 1.0
  require_better_than_chance: false
  min_test_groups_per_class: 1
export: {variants: [float32, dynamic]}
"""


@pytest.fixture(scope="session")
def tiny_place(tmp_path_factory) -> Path:
    """A folder to copy and work in: `source`, three classes of 12 unlike pictures each, and a params.yaml
    under which the whole chain takes a minute and accepts its model."""
    import cv2
    import numpy as np

    place = tmp_path_factory.mktemp("tiny")
    random = np.random.default_rng(5)
    for brightness, label in ((40, "normal"), (110, "benign"), (180, "malignant")):
        folder = place / "source" / label
        folder.mkdir(parents=True)
        for number in range(12):
            coarse = random.integers(0, 70, (9, 9)).astype(np.uint8)
            picture = cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC) + np.uint8(brightness)
            cv2.imwrite(str(folder / f"{number}.png"), picture)
    (place / "params.yaml").write_text(QUICK)
    return place


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server, with a socket in a folder of its own, as its superuser."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not programs:
        pytest.skip("needs PostgreSQL: Debian's package postgresql is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    user = "postgres" if os.geteuid() == 0 else None  # its server refuses to run as root
    if user:
        shutil.chown(folder, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs[-1].parent / program), "--pgdata", str(folder / "data"), *arguments]
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=120)

    run("initdb", "--username=admin", "--auth=trust", "--encoding=UTF8", "--no-sync")
    options = f"-c listen_addresses= -c fsync=off -c max_connections=200 -k {folder}"
    run("pg_ctl", "start", "--wait", "--silent", "--log", str(folder / "log"), "--options", options)
    yield f"postgresql+psycopg://admin@/postgres?host={folder}"
    run("pg_ctl", "stop", "--wait", "--silent", "--mode=immediate")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def make_postgresql_database(postgresql: str) -> Callable[[], str]:
    """Makes an empty database; returns its address as a role that owns it and no more, as MLflow has one."""
    numbers = itertools.count(1)

    def make() -> str:
        from sqlalchemy import create_engine, text

        name = f"mlflow{next(numbers)}"
        admin = create_engine(postgresql, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE ROLE {name} LOGIN"))
            connection.execute(text(f"CREATE DATABASE {name} OWNER {name}"))
        admin.dispose()
        return postgresql.replace("admin@/postgres", f"{name}@/{name}")

    return make
