"""`tumorflow audit`: what it shows and finds, from the server and from a copy of its database."""

import json
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from servers import Registry, password_of

from tumorflow.cli import main
from tumorflow.review.audit import Event, chain, from_json

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def decided(registry: Registry) -> list[dict[str, Any]]:
    """The entries of a server on which was decided, once their copies are there."""
    first, second = registry.register("lung"), registry.register("lung")
    assert registry.approve("rita", first, "as good\nas asked").status_code == 200
    assert registry.approve("rob", second, "better").status_code == 200
    assert registry.set_tag("rita", first, "review.rollback", "the second leaks").status_code == 200
    registry.register("liver")
    entries = registry.audit()
    deadline = time.monotonic() + 60
    while not (copies(registry) / f"{len(entries):08d}.json").exists():
        assert time.monotonic() < deadline, "the audit was not copied"
        time.sleep(0.1)
    return entries


def copies(registry: Registry) -> Path:
    return registry.folder / "artifacts" / "tumorflow-audit"


@pytest.fixture
def audit(registry, decided, monkeypatch, capsys):
    """The command `tumorflow audit` of a viewer at the server: exit code, output and errors."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.url)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "vic")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password_of("vic"))
    monkeypatch.delenv("MLFLOW_ARTIFACTS_DESTINATION", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["audit", *arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def offline(registry, decided, monkeypatch, tmp_path) -> Path:
    """A copy of the server's database, which the command then reads, in a folder with the audit's copies."""
    database = tmp_path / "mlflow.db"
    with sqlite3.connect(registry.folder / "mlflow.db") as source, sqlite3.connect(database) as copy:
        source.backup(copy)
    source.close()
    copy.close()
    shutil.copytree(copies(registry), tmp_path / "artifacts" / "tumorflow-audit")
    return database


@pytest.fixture
def audit_offline(audit, offline, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{offline}")
    return audit


def test_a_table_shows_who_decided_what_when_and_why(audit, decided):
    code, table, _ = audit("show", "--model", "lung")
    heading, *rows = table.splitlines()
    assert code == 0
    assert heading.split() == [
        "#", "when", "(UTC)", "who", "what", "model/version", "champion", "evidence", "reason",
    ]  # fmt: skip
    of_lung = [entry for entry in decided if entry["model"] == "lung"]
    assert len(rows) == len(of_lung) == 5
    for row, entry in zip(rows, of_lung, strict=True):
        assert row.startswith(str(entry["sequence"]))
        assert entry["at"][:19].replace("T", " ") in row
        assert entry["evidence_hash"][:12] in row
    assert "rita" in rows[2]
    assert "none → 1" in rows[2]
    assert rows[2].endswith("as good�as asked")  # on one line, whatever the reason holds
    assert "1 → 2" in rows[3]
    assert "rolled_back" in rows[4]
    assert "2 → 1" in rows[4]


def test_json_shows_all_of_it(audit, decided):
    code, lines, _ = audit("show", "--json")
    assert code == 0
    assert [json.loads(line) for line in lines.splitlines()] == decided
    _, lines, _ = audit("show", "--json", "--after", str(decided[-2]["sequence"]))
    assert [json.loads(line) for line in lines.splitlines()] == decided[-1:]
    assert audit("show", "--json", "--model", "none") == (0, "", "")


def test_server_and_copy_say_the_same(audit, offline, monkeypatch):
    at_server = audit("show")
    verified = audit("verify")
    assert verified[0] == 0, verified
    assert "audit: whole;" in verified[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{offline}")
    assert audit("show") == at_server
    assert audit("verify", "--export", str(offline.parent / "artifacts")) == verified
    alone = audit("verify")
    assert (alone[0], "no exported copies to compare with" in alone[1]) == (0, True), alone


def change(database: Path, *statements: str) -> None:
    """Writes to a database as whoever owns its file can."""
    with sqlite3.connect(database) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in names:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["UPDATE tumorflow_audit SET reason = 'another' WHERE action = 'approved'"], "was changed"),
        (["UPDATE tumorflow_audit SET actor = 'ann' WHERE sequence = 2"], "Entry 2 was changed"),
        (["UPDATE tumorflow_audit SET at = '2020' WHERE sequence = 2"], "Entry 2 was changed"),
        (["DELETE FROM tumorflow_audit WHERE sequence = 2"], "Entry 2 should come here. Received: entry 3."),
        (
            [
                "UPDATE tumorflow_audit SET sequence = -1 WHERE sequence = 2",
                "UPDATE tumorflow_audit SET sequence = 2 WHERE sequence = 3",
                "UPDATE tumorflow_audit SET sequence = 3 WHERE sequence = -1",
            ],
            "Entry 2 does not follow the entry before it",
        ),
        (["UPDATE registered_model_aliases SET version = 2"], "is version 2 in the registry"),
        (["DELETE FROM registered_model_aliases"], "The champion of 'lung' is none in the registry"),
        (
            ["INSERT INTO registered_model_aliases (workspace, name, alias, version) "
             "VALUES ('default', 'liver', 'champion', 1)"],
            "'liver' is version 1 in the registry, and none by the audit",
        ),
        (
            ["UPDATE model_version_tags SET value = 'ab' WHERE name = 'liver'"],
            "Version 1 of 'liver' has evidence ab",
        ),
        (["DELETE FROM model_version_tags WHERE key = 'tumorflow.evidence_hash'"], "has evidence none"),
    ],
)  # fmt: skip
def test_what_was_changed_in_the_database_is_found(audit_offline, offline, statements, found):
    change(offline, *statements)
    code, told, error = audit_offline("verify")
    assert (code, found in told) == (1, True), told + error
    assert "named above" in error


def test_an_audit_that_was_cut_at_its_end_is_found_by_its_copies(audit_offline, offline, decided):
    last = decided[-1]["sequence"]  # a registration, so that the champions agree still
    change(
        offline,
        f"DELETE FROM tumorflow_audit WHERE sequence = {last}",
        "DELETE FROM model_version_tags WHERE name = 'liver'",
        "DELETE FROM model_versions WHERE name = 'liver'",
    )
    assert audit_offline("verify")[0] == 0  # by itself it looks whole
    code, told, _ = audit_offline("verify", "--export", str(offline.parent / "artifacts"))
    assert code == 1
    assert told == f"Entry {last} was exported, and is not in the audit any more.\n"


def test_an_audit_that_was_written_anew_is_found_by_its_copies(audit_offline, offline, decided):
    entries = []
    for kept in map(from_json, decided):
        event = Event(**{**vars(kept.event), "actor": "rob"}) if kept.event.actor == "rita" else kept.event
        entries.append(chain(event, kept.at, entries[-1] if entries else None))
    rows = [entry.as_json() for entry in entries]
    names = ", ".join(rows[0])
    change(offline, "DELETE FROM tumorflow_audit")
    with sqlite3.connect(offline) as connection:
        marks = ", ".join("?" for _ in rows[0])
        connection.executemany(
            f"INSERT INTO tumorflow_audit ({names}) VALUES ({marks})", [tuple(row.values()) for row in rows]
        )
    connection.close()
    assert audit_offline("verify")[0] == 0
    code, told, _ = audit_offline("verify", "--export", str(offline.parent / "artifacts"))
    assert (code, "is not as it was exported" in told) == (1, True), told


def test_a_copy_that_is_missing_or_no_json_is_found(audit_offline, offline):
    folder = offline.parent / "artifacts"
    (folder / "tumorflow-audit" / "00000002.json").unlink()
    (folder / "tumorflow-audit" / "00000003.json").write_text("{")
    code, told, error = audit_offline("verify", "--export", str(folder))
    assert (code, told.splitlines()) == (
        1,
        [
            "Entry 2 has no exported copy, though a later one has.",
            "Entry 3 is not as it was exported.",
        ],
    )
    assert "Received: 2 faults" in error


def test_where_there_is_no_audit_that_is_said(audit, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    code, _, error = audit("show")
    assert (code, "no such file" in error, list(tmp_path.iterdir())) == (1, True, [])
    sqlite3.connect(tmp_path / "empty.db").close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/empty.db")
    code, _, error = audit("show")
    assert (code, "The audit is kept by MLflow's server" in error) == (1, True), error


def test_the_server_shows_its_audit_to_accounts_alone(audit, registry, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-one-at-all")
    for way in ("show", "verify"):
        code, told, error = audit(way)
        assert (code, "rita" in told, "not-the-one-at-all" in told + error) == (1, False, False), told + error
