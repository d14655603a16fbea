"""Databases that a registry may have: SQLite, and a true PostgreSQL where Debian's is installed."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

_NUMBERS = itertools.count(1)


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


@pytest.fixture
def postgresql_uri(postgresql: str) -> str:
    """The address of an empty database, as a role that owns it and no more, as MLflow's is."""
    name = f"mlflow{next(_NUMBERS)}"
    admin = create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
        connection.execute(text(f"CREATE DATABASE {name} OWNER {name}"))
    admin.dispose()
    return postgresql.replace("admin@/postgres", f"{name}@/{name}")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/mlflow.db"
    return str(request.getfixturevalue("postgresql_uri"))


@pytest.fixture
def engine(database_uri: str) -> Iterator[Engine]:
    """An engine of an empty database of either kind."""
    made = create_engine(database_uri, connect_args={"timeout": 60} if "sqlite" in database_uri else {})
    yield made
    made.dispose()
