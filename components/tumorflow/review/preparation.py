"""What is made ready in the database before the server starts: tables, roles, accounts, audit."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumorflow.errors import ParameterError, UnavailableError
from tumorflow.review import ledger, server
from tumorflow.review.audit import Event
from tumorflow.review.policy import PIPELINE, ROLES
from tumorflow.review.roles import SUMMARIES, WORKSPACE, compare_grants
from tumorflow.review.server import Place
from tumorflow.tracking.connection import without_credentials

if TYPE_CHECKING:
    from sqlalchemy import Connection

LOCK = 7_305_001  # any number that nothing else locks in this database
DEADLINE_SECONDS = 120.0
AUTHOR = "tumorflow registry prepare"
"""Who the audit says gave the pipeline its role."""


def read_environment(environment: Mapping[str, str], *, prepared: bool = False) -> dict[str, str]:
    """Returns the server's environment: every setting with its value, passwords where only libpq looks.

    Raises:
        ParameterError: secrets are missing, defaults or too short, each named; or a setting is impossible.
    """
    if weak := server.find_weak_secrets(environment, prepared=prepared):
        raise ParameterError("The registry starts with secrets of its own alone.\n" + "\n".join(weak))
    if any("*" in origin for origin in environment.get(server.ORIGINS, "").split(",")):
        raise ParameterError(
            f"{server.ORIGINS} lists the sites whose pages may act for whoever is logged in. Received: one "
            "with '*'. Write each out: https://registry.your-hospital.test"
        )
    place = server.read_place(environment)
    settings = {
        server.BACKEND: place.backend_store_uri,
        server.ARTIFACTS: place.artifacts_destination,
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its background jobs judge language models
        "MLFLOW_ENABLE_WORKSPACES": "false",
        "MLFLOW_ENABLE_REMOTE_ASSISTANT": "false",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",  # it refuses other sites' pages
    }
    if place.folder is None and (password := server.read_database_password(environment)):
        settings["PGPASSWORD"] = password
    return {**environment, **settings}


def write_configuration(place: Place) -> Path:
    """Returns MLflow's configuration of accounts, after writing it for this account's eyes alone."""
    if place.folder is None:
        folder = Path(tempfile.mkdtemp(prefix="tumorflow-registry-"))
    else:
        folder = make_folder(place.folder)
    path = folder / "accounts.ini"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(server.describe_configuration(place))
    return path


def make_folder(folder: Path) -> Path:
    """Returns the folder of the tables; a new one is for this account's eyes alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def prepare(place: Place, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Brings tables, roles and accounts to what is asked for; one process at a time.

    The process' own environment must be the server's: libpq and MLflow read it.

    Raises:
        UnavailableError: the database does not answer, or cannot be brought there.
    """
    from sqlalchemy.exc import SQLAlchemyError

    if "://" not in place.artifacts_destination:
        Path(place.artifacts_destination).mkdir(parents=True, exist_ok=True)
    try:
        with alone(place):
            upgrade_tables(place)
            prepare_accounts(place, environment, say)
    except SQLAlchemyError as error:
        raise UnavailableError(
            f"The database takes MLflow's tables. Received: {type(error).__name__} from "
            f"{without_credentials(place.backend_store_uri)}. Check the rights of its user and its log."
        ) from error


@contextmanager
def alone(place: Place) -> Iterator[None]:
    """Lets one process at a time through, once the database answers.

    Raises:
        UnavailableError: it does not.
    """
    if place.folder is not None:
        with (make_folder(place.folder) / "prepare.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    from sqlalchemy import text

    connection = wait_for_database(place.backend_store_uri)
    try:  # the lock ends with the connection
        connection.execute(text(f"SELECT pg_advisory_lock({LOCK})"))
        yield
    finally:
        connection.close()


def wait_for_database(uri: str) -> "Connection":
    """Returns a connection, after waiting for a database that is only starting.

    Raises:
        UnavailableError: it does not answer in time.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import NullPool

    engine = create_engine(
        uri, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 10}
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return engine.connect()
        except OperationalError as error:
            if time.monotonic() > deadline:
                said = " ".join(str(error.orig).split())[:300]  # libpq's words, in which is no password
                raise UnavailableError(
                    f"The database answers within {DEADLINE_SECONDS:.0f} s. Received: "
                    f"{said} from {without_credentials(uri)}. "
                    "Check its address, its user and password, and that it runs."
                ) from error
            time.sleep(2)


def upgrade_tables(place: Place) -> None:
    """Makes MLflow's tables in an empty database or migrates older ones; makes the audit's."""
    import logging

    from mlflow.db import upgrade

    for chatty in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # the command of `mlflow db upgrade`, in this process: a process list shows arguments
    upgrade.main([place.backend_store_uri], standalone_mode=False)
    from sqlalchemy import create_engine

    engine = create_engine(place.backend_store_uri)
    ledger.create_table(engine)
    engine.dispose()


def prepare_accounts(place: Place, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Makes the roles what the table says, and the environment's accounts with their passwords of now."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(place.accounts_uri)
    prepare_roles(store, say)
    set_password(store, server.ADMINISTRATOR, environment[server.ADMIN_PASSWORD], say, is_admin=True)
    name = environment.get(server.USERNAME, "")
    if name and name != server.ADMINISTRATOR:
        prepare_pipeline(place, store, name, environment[server.PASSWORD], say)
    store.engine.dispose()


def prepare_roles(store: Any, say: Callable[[str], None]) -> None:
    """Makes the four roles, and gives each its grants and no other."""
    present = {role.name: role for role in store.list_roles([WORKSPACE])}
    for name in ROLES:
        role = present.get(name)
        if role is None:
            role = store.create_role(name, WORKSPACE, SUMMARIES[name])
            say(f"made the role {name}")
        grants = {(g.resource_type, g.resource_pattern): g for g in store.list_role_permissions(role.id)}
        changes = compare_grants(name, [(*key, grant.permission) for key, grant in grants.items()])
        for key in changes.remove:
            store.remove_role_permission(grants[key].id)
            say(f"took {key[0]} {key[1]} from the role {name}, which the table does not grant")
        for grant in changes.add:
            store.add_role_permission(role.id, grant.resource, "*", grant.permission)


def prepare_pipeline(place: Place, store: Any, name: str, password: str, say: Callable[[str], None]) -> None:
    """Makes the pipeline's account; one of this name that has another role is a person's, and stays."""
    from sqlalchemy import create_engine

    if store.has_user(name):
        user = store.get_user(name)
        roles = {role.name for role in store.list_user_roles(user.id)} & set(ROLES)
        if user.is_admin or roles - {PIPELINE}:
            return
    else:
        roles = set()
    set_password(store, name, password, say)
    if PIPELINE in roles:
        return
    engine = create_engine(place.backend_store_uri)
    with engine.begin() as connection:
        ledger.append(connection, Event("role_given", AUTHOR, reason=f"{PIPELINE}: {name}"))
    engine.dispose()
    (role,) = (role for role in store.list_roles([WORKSPACE]) if role.name == PIPELINE)
    store.assign_role_to_user(store.get_user(name).id, role.id)
    say(f"gave {name} the role {PIPELINE}")


def set_password(
    store: Any, name: str, password: str, say: Callable[[str], None], *, is_admin: bool = False
) -> None:
    """Makes an account, or gives one that is there the environment's password."""
    if not store.has_user(name):
        store.create_user(name, password, is_admin=is_admin)
        say(f"made the account {name}")
    elif not store.authenticate_user(name, password):
        store.update_user(name, password=password)
        say(f"set the password of {name}")
