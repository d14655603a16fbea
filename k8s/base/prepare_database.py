"""Brings MLflow's database to the schema of this image and its two accounts to the Secret's passwords.

Runs before the server in each of its pods. An advisory lock lets one pod at a time through, so that replicas
that start together neither migrate twice nor make an account twice. libpq reads PGHOST, PGUSER, PGPASSWORD.
"""

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

PLACEHOLDER = "replace-me"
LOCK = 7_305_001  # any number that nothing else locks in this database
DEADLINE_SECONDS = 120.0


def refuse_placeholders() -> None:
    """Stops with the names of settings that nobody has filled in."""
    left = sorted(name for name, value in os.environ.items() if PLACEHOLDER in value)
    if left:
        sys.exit(f"Every {PLACEHOLDER} of the overlay needs a value of yours. Received: {', '.join(left)}.")


def connect() -> "psycopg.Connection":
    """Returns a connection, after waiting for a database that is only starting."""
    import psycopg

    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return psycopg.connect("", autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                sys.exit(f"The database must answer within {DEADLINE_SECONDS:.0f} s. Received: {error}")
            time.sleep(2)


def upgrade_schema(uri: str) -> None:
    """Creates MLflow's tables in an empty database, or migrates older ones."""
    subprocess.run(["mlflow", "db", "upgrade", uri], check=True)  # noqa: S603, S607 - the image's own command


def set_accounts(uri: str) -> None:
    """Creates the administrator and the pipeline's account, or gives them the Secret's present passwords."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(uri)
    for name, password, is_admin in (
        ("admin", os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"], True),
        (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"], False),
    ):
        if not store.has_user(name):
            store.create_user(name, password, is_admin=is_admin)
        elif not store.authenticate_user(name, password):
            store.update_user(name, password=password)


def main() -> None:
    """Prepares the database under the lock, which ends with the connection."""
    refuse_placeholders()
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    with connect() as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        upgrade_schema(uri)
        set_accounts(uri)
    print("The database is ready.")


if __name__ == "__main__":
    main()
