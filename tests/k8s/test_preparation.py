"""Two replicas start at once, before their database does, on the tables of the release before this one."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from werkzeug.security import check_password_hash

REPLICAS = 2
NEW = "of-the-tests-alone-2"
FORMER = """
from mlflow.db import upgrade
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

upgrade.main(["postgresql+psycopg://"], standalone_mode=False)
store = SqlAlchemyStore()
store.init_db("postgresql+psycopg://")
store.create_user("admin", "of-the-tests-alone-1", is_admin=True)
store.create_user("pipeline", "of-the-tests-alone-1")
"""


class Database:
    """PostgreSQL with its socket in a folder of its own, and nothing on the network."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        if self.user:
            shutil.chown(folder, self.user)
        self.run("initdb", "--username=mlflow", "--auth=trust", "--encoding=UTF8", "--no-sync")

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), "--pgdata", str(self.folder / "data"), *arguments]
        subprocess.run(
            command, user=self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, timeout=120
        )

    def start(self) -> None:
        options = f"-c listen_addresses= -c fsync=off -k {self.folder}"
        log = str(self.folder / "log")
        self.run("pg_ctl", "start", "--wait", "--silent", "--log", log, "--options", options)

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "--wait", "--silent", "--mode=immediate")

    @property
    def address(self) -> Mapping[str, str]:
        return {"PGHOST": str(self.folder), "PGUSER": "mlflow", "PGDATABASE": "postgres"}


@pytest.fixture
def database() -> Iterator[Database]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("needs PostgreSQL: Debian's package postgresql is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path is short
    database = Database(programs[-1], folder)
    try:
        yield database
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            database.stop()
        shutil.rmtree(folder)


def test_replicas_wait_for_the_database_and_bring_it_up_to_date_once(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, **database.address, "PYTHONWARNINGS": "ignore"}
    database.start()
    subprocess.run([sys.executable, "-c", FORMER], env=environment, check=True, capture_output=True)
    database.stop()

    settings = {
        "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg://",
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://nowhere/mlflow",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "0f5b8c6d-long-enough-for-the-tests-9a7e",
        "MLFLOW_AUTH_ADMIN_PASSWORD": NEW,
        "MLFLOW_TRACKING_USERNAME": "pipeline",
        "MLFLOW_TRACKING_PASSWORD": NEW,
    }
    command = [sys.executable, "-m", "tumorflow", "registry", "prepare"]
    replicas = [
        subprocess.Popen(
            command,
            env={**environment, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(REPLICAS)
    ]
    with pytest.raises(subprocess.TimeoutExpired):  # nothing answers yet, and that is no reason to end
        replicas[0].wait(timeout=8)
    database.start()
    said = []
    for replica in replicas:
        output, errors = replica.communicate(timeout=300)
        assert replica.returncode == 0, errors
        said += output.splitlines()
    assert said.count("The database is ready.") == REPLICAS
    for once in ("made the role pipeline", "gave pipeline the role pipeline", "set the password of admin"):
        assert said.count(once) == 1, said

    engine = create_engine(f"postgresql+psycopg://mlflow@/postgres?host={database.folder}")
    with engine.connect() as connection:
        accounts = connection.execute(text("SELECT username, password_hash FROM users ORDER BY 1")).all()
        audit = connection.execute(text("SELECT action, actor, reason FROM tumorflow_audit")).all()
    engine.dispose()
    assert [name for name, _ in accounts] == ["admin", "pipeline"]
    # a changed Secret counts
    assert all(check_password_hash(kept, NEW) for _, kept in accounts)
    assert audit == [("role_given", "tumorflow registry prepare", "pipeline: pipeline")]
