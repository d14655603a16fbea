"""Where the audit is kept: one table of MLflow's own database, in which nothing is changed or removed."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tumorflow.review.audit import Entry, Event, chain, from_json

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

TABLE = "tumorflow_audit"
LOCK_TABLE = "tumorflow_lock"
"""Empty: SQLite's writers wait at it for each other."""
_LOCK = 7_305_002  # any number that nothing else locks in this database
_COLUMNS = (
    "sequence", "at", "action", "actor", "model", "version", "reason", "evidence_hash", "previous_champion",
    "champion", "previous_hash", "entry_hash",
)  # fmt: skip
_CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    sequence INTEGER PRIMARY KEY, at TEXT NOT NULL, action TEXT NOT NULL, actor TEXT NOT NULL,
    model TEXT NOT NULL, version TEXT NOT NULL, reason TEXT NOT NULL, evidence_hash TEXT NOT NULL,
    previous_champion TEXT NOT NULL, champion TEXT NOT NULL,
    previous_hash TEXT NOT NULL UNIQUE, entry_hash TEXT NOT NULL UNIQUE
)
"""
_REPLACES = f"""
WHEN EXISTS (
    SELECT 1 FROM {TABLE} WHERE sequence >= NEW.sequence
    OR previous_hash = NEW.previous_hash OR entry_hash = NEW.entry_hash
)
"""  # noqa: S608 - constants; INSERT OR REPLACE removes rows without the trigger for DELETE
_SQLITE_TRIGGERS = tuple(
    f"""
    CREATE TRIGGER IF NOT EXISTS {TABLE}_no_{verb} BEFORE {event} ON {TABLE} {condition}
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
    """
    for verb, event, condition in (
        ("update", "UPDATE", ""),
        ("delete", "DELETE", ""),
        ("replace", "INSERT", _REPLACES),
    )
)
_POSTGRESQL_TRIGGERS = (
    f"""
    CREATE OR REPLACE FUNCTION {TABLE}_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$
    """,
    f"""
    CREATE OR REPLACE TRIGGER {TABLE}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {TABLE}
    FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_refuse()
    """,
    f"REVOKE UPDATE, DELETE, TRUNCATE ON {TABLE} FROM PUBLIC, CURRENT_USER",
)


def create_table(engine: "Engine") -> None:
    """Creates the table, without the right to change or remove a row; a repeated call changes nothing."""
    from sqlalchemy import text

    triggers = _POSTGRESQL_TRIGGERS if engine.dialect.name == "postgresql" else _SQLITE_TRIGGERS
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # where two that create one table at once get in their way
            lock(connection)
        connection.execute(text(f"CREATE TABLE IF NOT EXISTS {LOCK_TABLE} (held INTEGER)"))
        lock(connection)
        for statement in (_CREATE, *triggers):
            connection.execute(text(statement))


def lock(connection: "Connection") -> None:
    """Lets one transaction at a time through, until it ends; a deadline is the database's own."""
    from sqlalchemy import text

    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    else:  # SQLite knows one writer: a write that changes nothing makes this transaction it
        connection.execute(text(f"DELETE FROM {LOCK_TABLE}"))  # noqa: S608 - a constant


def append(connection: "Connection", event: Event) -> Entry:
    """Returns the entry, after writing it behind the last one; it is there when the transaction commits."""
    from sqlalchemy import text

    lock(connection)
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entry = chain(event, at, read_last(connection))
    names = ", ".join(_COLUMNS)
    values = ", ".join(f":{name}" for name in _COLUMNS)
    connection.execute(text(f"INSERT INTO {TABLE} ({names}) VALUES ({values})"), entry.as_json())  # noqa: S608 - constants
    return entry


def read(connection: "Connection", after: int = 0) -> list[Entry]:
    """Returns the entries with a sequence above `after`, in their order."""
    from sqlalchemy import text

    rows = connection.execute(
        text(f"SELECT {', '.join(_COLUMNS)} FROM {TABLE} WHERE sequence > :after ORDER BY sequence"),  # noqa: S608 - constants
        {"after": after},
    )
    return [from_json(row._asdict()) for row in rows]


def read_last(connection: "Connection") -> Entry | None:
    """Returns the newest entry; None: there is none."""
    from sqlalchemy import text

    rows = connection.execute(
        text(f"SELECT {', '.join(_COLUMNS)} FROM {TABLE} ORDER BY sequence DESC LIMIT 1")  # noqa: S608 - constants
    )
    return next((from_json(row._asdict()) for row in rows), None)


def read_of_model(connection: "Connection", model: str) -> list[Entry]:
    """Returns the entries on one registered model, in their order."""
    from sqlalchemy import text

    rows = connection.execute(
        text(f"SELECT {', '.join(_COLUMNS)} FROM {TABLE} WHERE model = :model ORDER BY sequence"),  # noqa: S608 - constants
        {"model": model},
    )
    return [from_json(row._asdict()) for row in rows]
