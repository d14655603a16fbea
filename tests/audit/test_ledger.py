"""The table that only grows, in SQLite and in PostgreSQL."""

import sqlite3
import subprocess
import sys
import threading

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from tumorflow.review.audit import Event, find_faults
from tumorflow.review.ledger import (
    TABLE,
    append,
    create_table,
    read,
    read_last,
    read_of_model,
)

COLUMNS = "sequence, at, action, actor, model, version, reason, evidence_hash, previous_champion, champion"


def registered(version: str, model: str = "lung") -> Event:
    return Event("registered", "pipeline", model, version, evidence_hash="ab" * 32)


@pytest.fixture
def ledger(engine):
    create_table(engine)
    create_table(engine)  # a second worker's
    with engine.begin() as connection:
        for version in ("1", "2"):
            append(connection, registered(version))
    return engine


def test_entries_come_back_as_they_were_written(ledger):
    with ledger.begin() as connection:
        third = append(connection, registered("1", "Leber ä'\"\n"))
        assert read_last(connection) == third
        entries = read(connection)
        assert [entry.sequence for entry in entries] == [1, 2, 3]
        assert find_faults(entries) == []
        assert read(connection, after=2) == [third]
        assert read_of_model(connection, "lung") == entries[:2]


def test_an_entry_is_there_only_when_its_transaction_is(ledger):
    with ledger.connect() as connection:  # and never commits
        append(connection, registered("3"))
    with ledger.begin() as connection:
        assert [entry.sequence for entry in read(connection)] == [1, 2]


def refused(engine, statement: str) -> str:
    with pytest.raises(DBAPIError) as caught, engine.begin() as connection:
        connection.execute(text(statement))
    return str(caught.value.orig)


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE {TABLE} SET reason = 'another' WHERE sequence = 1",
        f"UPDATE {TABLE} SET sequence = 7 WHERE sequence = 2",
        f"DELETE FROM {TABLE} WHERE sequence = 2",
        f"DELETE FROM {TABLE}",
        f"INSERT INTO {TABLE} SELECT * FROM {TABLE} WHERE sequence = 2 "
        "ON CONFLICT (sequence) DO UPDATE SET reason = 'another'",
    ],
)
def test_no_entry_is_changed_or_removed(ledger, statement):
    before = entries_of(ledger)
    assert any(words in refused(ledger, statement) for words in ("append-only", "permission denied"))
    assert entries_of(ledger) == before


def entries_of(engine):
    with engine.begin() as connection:
        return read(connection)


@pytest.mark.parametrize(
    ("sequence", "previous_hash", "entry_hash"),
    [("2", "'x'", "'y'"), ("3", "previous_hash", "'y'"), ("3", "'x'", "entry_hash"), ("1", "'x'", "'y'")],
)
def test_sqlite_replaces_no_entry(tmp_path, sequence, previous_hash, entry_hash):
    engine = create_engine(f"sqlite:///{tmp_path}/mlflow.db")
    create_table(engine)
    with engine.begin() as connection:
        append(connection, registered("1"))
        append(connection, registered("2"))
    before = entries_of(engine)
    columns = COLUMNS.replace("sequence, ", "")
    statement = (
        f"INSERT OR REPLACE INTO {TABLE} SELECT {sequence}, {columns}, {previous_hash}, {entry_hash} "
        f"FROM {TABLE} WHERE sequence = 2"
    )
    assert "append-only" in refused(engine, statement)
    with sqlite3.connect(tmp_path / "mlflow.db") as direct, pytest.raises(sqlite3.IntegrityError):
        direct.execute(statement)
    direct.close()
    assert entries_of(engine) == before
    engine.dispose()


def test_postgresql_takes_the_right_to_change_from_the_owner_too(postgresql_uri, postgresql):
    engine = create_engine(postgresql_uri)
    create_table(engine)
    with engine.begin() as connection:
        append(connection, registered("1"))
    assert "permission denied" in refused(engine, f"TRUNCATE {TABLE}")
    superuser = create_engine(postgresql.replace("/postgres?", f"/{engine.url.database}?"))
    for statement in (f"TRUNCATE {TABLE}", f"DELETE FROM {TABLE}", f"UPDATE {TABLE} SET actor = 'me'"):
        assert "append-only" in refused(superuser, statement)
    assert len(entries_of(engine)) == 1
    engine.dispose()
    superuser.dispose()


def test_fifty_threads_append_one_whole_chain(engine):
    create_table(engine)
    together = threading.Barrier(50)
    failures: list[Exception] = []

    def work(number: int) -> None:
        together.wait()
        try:
            for turn in range(4):
                with engine.begin() as connection:
                    append(connection, registered(f"{number}.{turn}"))
        except DBAPIError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    entries = entries_of(engine)
    assert find_faults(entries) == []
    assert {entry.event.version for entry in entries} == {
        f"{n}.{turn}" for n in range(50) for turn in range(4)
    }


PROCESS = """
import sys
from sqlalchemy import create_engine
from tumorflow.review.audit import Event
from tumorflow.review.ledger import append, create_table
uri, name = sys.argv[1:]
engine = create_engine(uri, connect_args={"timeout": 60} if uri.startswith("sqlite") else {})
create_table(engine)
for turn in range(25):
    with engine.begin() as connection:
        append(connection, Event("registered", "pipeline", "lung", f"{name}.{turn}"))
"""


def test_processes_create_and_append_one_whole_chain(database_uri, engine):
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, database_uri, str(number)]) for number in range(6)
    ]
    assert [process.wait() for process in processes] == [0] * 6
    entries = entries_of(engine)
    assert len(entries) == 150
    assert find_faults(entries) == []
