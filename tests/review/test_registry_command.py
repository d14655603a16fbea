"""`tumorflow registry`: what the server refuses to start with, whether it is ready, and how it ends."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from servers import ADMIN_PASSWORD, Registry, find_free_port, make_registry

from tumorflow.cli import main
from tumorflow.errors import ParameterError, UnavailableError, UsageError
from tumorflow.review import preparation
from tumorflow.review.server import (
    choose_allowed_hosts,
    choose_origins,
    choose_shown_host,
    find_unready,
    find_weak_secrets,
    read_database_password,
    read_place,
)
from tumorflow.review.settings import read_settings

pytestmark = pytest.mark.timeout(300)
ADMIN, KEY = "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"
PASSWORD, WEBHOOK = "MLFLOW_TRACKING_PASSWORD", "TUMORFLOW_WEBHOOK_SECRET"
GOOD = {ADMIN: "three-tall-trees-7", KEY: "0f5b8c6d-long-enough-for-the-tests-9a7e"}
HOOKED = {**GOOD, "TUMORFLOW_WEBHOOK_URLS": "https://receiver.example/champion"}
SERVICE = {**GOOD, "MLFLOW_TRACKING_USERNAME": "pipeline"}


@pytest.mark.parametrize(
    "environment",
    [
        GOOD,
        {**HOOKED, WEBHOOK: "w" + GOOD[KEY]},
        {**SERVICE, PASSWORD: "of-the-pipeline-1"},
        {**GOOD, "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg://mlflow:three-tall@db/mlflow"},
        {**GOOD, "PGPASSWORD": "three-tall-trees"},
    ],
)
def test_secrets_of_ones_own_are_taken(environment):
    assert find_weak_secrets(environment) == []
    assert preparation.read_environment(environment)[KEY] == GOOD[KEY]


@pytest.mark.parametrize(
    ("environment", "secret", "variable", "fault"),
    [
        ({**GOOD, ADMIN: ""}, "", ADMIN, "none"),
        ({**GOOD, ADMIN: "short-1x"}, "short-1x", ADMIN, "8 characters"),
        ({**GOOD, ADMIN: "password1234"}, "password1234", ADMIN, "a default"),  # MLflow's own
        ({**GOOD, ADMIN: "Admin-2026-11"}, "Admin-2026-11", ADMIN, "a default"),
        ({**GOOD, ADMIN: "111111111111"}, "111111111111", ADMIN, "a default"),
        ({**GOOD, ADMIN: " " * 20}, " " * 20, ADMIN, "a default"),
        ({**GOOD, KEY: ""}, "", KEY, "none"),
        ({**GOOD, KEY: "my-secret-key"}, "my-secret-key", KEY, "a default"),
        ({**GOOD, KEY: "three-tall-trees-7"}, "three-tall-trees-7", KEY, "18 characters"),
        ({**GOOD, KEY: "abcd" * 10}, "abcd" * 10, KEY, "a default"),
        (HOOKED, "", WEBHOOK, "none"),
        ({**HOOKED, WEBHOOK: "three-tall-trees-7"}, "three-tall-trees-7", WEBHOOK, "18 characters"),
        (SERVICE, "", PASSWORD, "none"),
        ({**SERVICE, PASSWORD: "tumorflow-1"}, "tumorflow-1", PASSWORD, "a default"),
        ({**GOOD, PASSWORD: "three-tall-oaks-7"}, "three-tall-oaks-7", "MLFLOW_TRACKING_USERNAME", "no "),
        ({**GOOD, "AWS_KEY": "replace-me-77"}, "replace-me-77", "AWS_KEY", "one in"),
        ({**GOOD, ADMIN: "replace-me-with-yours-7"}, "replace-me-with-yours-7", ADMIN, "a default"),
        ({**GOOD, "PGPASSWORD": "postgres123"}, "postgres123", "database's password", "a default"),
        (
            {**GOOD, "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg://mlflow:p%61ssword9@db/mlflow"},
            "p%61ssword9", "database's password", "a default",
        ),
    ],
)  # fmt: skip
def test_a_secret_that_is_none_is_refused_by_its_variable_alone(environment, secret, variable, fault):
    (sentence,) = [each for each in find_weak_secrets(environment) if variable in each][-1:]
    assert f"Received: {fault}" in sentence
    with pytest.raises(ParameterError) as refused:
        preparation.read_environment(environment)
    assert variable in str(refused.value)
    assert not secret or secret not in str(refused.value)


def test_all_that_is_missing_is_named_at_once():
    assert [sentence.split()[0] for sentence in find_weak_secrets({})] == [KEY, ADMIN]
    assert find_weak_secrets({KEY: GOOD[KEY]}, prepared=True) == []


@pytest.mark.parametrize("argument", ["serve", "prepare"])
def test_the_command_starts_nothing_without_secrets(argument, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in (ADMIN, KEY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(ADMIN, "password1234")
    port = ["--port", str(find_free_port())] if argument == "serve" else []
    assert main(["registry", argument, *port]) == 2
    told = capsys.readouterr().err
    assert (KEY in told, ADMIN in told, "password1234" in told) == (True, True, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "given", "names"),
    [
        ("127.0.0.1", "", "localhost:5000,127.0.0.1:5000,[::1]:5000"),
        ("::1", "", "localhost:5000,127.0.0.1:5000,[::1]:5000"),
        ("0.0.0.0", "registry.test:5000, localhost:5000,", "registry.test:5000,localhost:5000"),
        ("127.0.0.1", "registry.test", "registry.test"),
        ("0.0.0.0", "*.registry.test:5000", "*.registry.test:5000"),
        ("0.0.0.0", "registry.test:*,[::1]:5000", "registry.test:*,[::1]:5000"),
    ],
)
def test_the_server_answers_to_its_names(host, given, names):
    assert choose_allowed_hosts(host, 5000, given) == names


@pytest.mark.parametrize(
    "given",
    ["*", " * ", "registry.test,*", "**", "*:5000", "?*", "[!x]*", "*.*", "*e*", "*.test", "*:*", "a*"],
)
def test_the_server_answers_not_to_every_name(given):
    with pytest.raises(UsageError, match="against DNS rebinding"):
        choose_allowed_hosts("127.0.0.1", 5000, given)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "registry.test", ""])
@pytest.mark.parametrize("given", ["", " , "])
def test_a_server_that_others_reach_needs_names(host, given):
    with pytest.raises(UsageError, match="--allowed-hosts"):
        choose_allowed_hosts(host, 5000, given)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--allowed-hosts", "*"], "DNS rebinding"),
        (["--host", "0.0.0.0"], "Received: --host 0.0.0.0 without"),
        (["--host", "no.such.host.invalid", "--allowed-hosts", "a.test"], "Received: no.such.host.invalid:"),
        (["--port", "99999"], "99999"),
        (["--port", "0"], "127.0.0.1:0"),
        (["--port", "-1"], "-1"),
        (["--workers", "0"], "0"),
    ],
)
def test_the_command_refuses_what_it_cannot_serve(options, says, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_SERVER_ALLOWED_HOSTS", raising=False)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("it served"))
    port = [] if "--port" in options else ["--port", str(find_free_port())]
    assert main(["registry", "serve", *port, *options]) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["mysql://u:hidden-1@db/m", "postgresql://u:hidden-1@db/m", "mssql://x", "/a/b.db", "x"]
)
def test_a_database_of_another_kind_is_refused_without_its_password(uri):
    with pytest.raises(ParameterError, match="MLFLOW_BACKEND_STORE_URI") as refused:
        read_place({"MLFLOW_BACKEND_STORE_URI": uri})
    assert "hidden-1" not in str(refused.value)


def test_the_place_is_below_runs_and_holds_no_password(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    place = read_place({})
    own = tmp_path / "runs" / "registry"
    assert place.backend_store_uri == f"sqlite:///{own}/mlflow.db"
    assert place.accounts_uri == f"sqlite:///{own}/mlflow-accounts.db"
    assert (place.artifacts_destination, place.folder) == (str(own / "artifacts"), own)
    given = {
        "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg://mlflow:h%40idden@db:5432/mlflow",
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/mlflow",
    }
    place = read_place(given)
    assert place.backend_store_uri == place.accounts_uri == "postgresql+psycopg://mlflow@db:5432/mlflow"
    assert (place.artifacts_destination, place.folder) == ("s3://bucket/mlflow", None)
    assert read_database_password(given) == "h@idden"
    environment = preparation.read_environment({**GOOD, **given})
    assert environment["PGPASSWORD"] == "h@idden"
    assert "idden" not in environment["MLFLOW_BACKEND_STORE_URI"]


@pytest.mark.parametrize("origins", ["*", "https://a.test,*", "https://*.test"])
def test_no_page_of_every_site_decides_in_a_reviewers_name(origins):
    with pytest.raises(ParameterError, match="MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"):
        preparation.read_environment({**GOOD, "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": origins})
    own = {**GOOD, "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://registry.test"}
    assert own.items() <= preparation.read_environment(own).items()


@pytest.mark.parametrize(
    "name",
    [
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_ENABLE_REMOTE_ASSISTANT",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "MLFLOW_ENABLE_WORKSPACES",
    ],
)  # fmt: skip
def test_what_would_open_a_way_past_the_policy_stays_off(name):
    assert preparation.read_environment({**GOOD, name: "true"})[name] == "false"


@pytest.mark.parametrize("value", ["maybe", "", "0", "true"])
def test_four_eyes_is_on_or_off(value):
    with pytest.raises(ParameterError, match="TUMORFLOW_FOUR_EYES is on or off"):
        read_settings({"TUMORFLOW_FOUR_EYES": value})


def test_settings_are_read_as_written():
    assert read_settings({}).four_eyes is True
    assert read_settings({"TUMORFLOW_FOUR_EYES": " OFF "}).four_eyes is False
    urls = "https://a.example/x, http://127.0.0.1:8700 ,"
    assert read_settings({"TUMORFLOW_WEBHOOK_URLS": urls}).webhook_urls == (
        "https://a.example/x", "http://127.0.0.1:8700",
    )  # fmt: skip
    with pytest.raises(ParameterError, match="TUMORFLOW_WEBHOOK_URLS") as refused:
        read_settings({"TUMORFLOW_WEBHOOK_URLS": "ftp://user:hidden-1@a.example"})
    assert "hidden-1" not in str(refused.value)


def test_stores_that_are_away_are_named(tmp_path):
    database = tmp_path / "mlflow.db"
    missing, folder = find_unready(f"sqlite:///{database}", str(tmp_path / "none"))
    assert "no file at" in missing
    assert folder == f"The artifact store can be listed. Received: no {tmp_path / 'none'}."
    assert not database.exists()
    database.write_bytes(b"no database at all" * 100)
    (damaged,) = find_unready(f"sqlite:///{database}", str(tmp_path))
    assert "DatabaseError" in damaged
    database.unlink()
    sqlite3.connect(database).close()
    (empty,) = find_unready(f"sqlite:///{database}", str(tmp_path))
    assert "holds MLflow's tables" in empty
    away = f"postgresql+psycopg://mlflow@127.0.0.1:{find_free_port()}/mlflow"
    (refused,) = find_unready(away, str(tmp_path))
    assert "OperationalError from postgresql+psycopg://" in refused


def test_a_database_that_is_away_is_told_in_its_own_words(monkeypatch):
    monkeypatch.setattr(preparation, "DEADLINE_SECONDS", 0)
    uri = f"postgresql+psycopg://mlflow@127.0.0.1:{find_free_port()}/mlflow"
    with pytest.raises(UnavailableError, match="Connection refused"):
        preparation.wait_for_database(uri)


def test_pages_under_the_servers_own_names_may_change_something_and_those_that_are_named():
    names = "registry.hospital.test:5000,localhost:*,*.wards.test"
    own = ["https://registry.hospital.test:5000", "http://registry.hospital.test:5000"]
    assert choose_origins(names, "").split(",") == own
    assert choose_origins(names, " https://portal.test/ ,").split(",") == [*own, "https://portal.test"]
    assert choose_origins("localhost:*", "") == ""


@pytest.mark.parametrize(
    ("allowed", "shown"),
    [
        ("localhost:5000,127.0.0.1:5000", "localhost:5000"),
        ("localhost:*,mlflow:5000", "mlflow:5000"),
        ("localhost:*", "localhost:7000"),
    ],
)
def test_the_address_on_the_terminal_can_be_opened(allowed, shown):
    assert choose_shown_host(allowed, 7000) == shown


# On a true server


def prepare(server: Registry, **environment: str) -> list[str]:
    """Returns the lines of `tumorflow registry prepare`."""
    done = subprocess.run(
        [sys.executable, "-m", "tumorflow", "registry", "prepare"],
        env={**os.environ, **server.environment, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_preparing_again_changes_only_what_is_asked_for(tmp_path):
    server = make_registry(tmp_path)
    roles = [f"made the role {role}" for role in ("engineer", "pipeline", "reviewer", "viewer")]
    assert prepare(server) == [*roles, "made the account admin", "The database is ready."]
    assert prepare(server) == ["The database is ready."]
    changed = {ADMIN: "of-the-tests-anew-2", "MLFLOW_TRACKING_USERNAME": "robot"}
    assert prepare(server, **changed, MLFLOW_TRACKING_PASSWORD="of-the-robot-alone-1") == [
        "set the password of admin",
        "made the account robot",
        "gave robot the role pipeline",
        "The database is ready.",
    ]
    told = (tmp_path / "accounts.ini").read_text()
    assert ADMIN_PASSWORD not in told
    assert "anew" not in told
    assert (tmp_path / "accounts.ini").stat().st_mode & 0o077 == 0


def ready(registry: Registry) -> tuple[int, list[str]]:
    answer = requests.get(f"{registry.url}/readyz", timeout=30)
    return answer.status_code, answer.json()["unready"]


def alive(registry: Registry) -> bool:
    return requests.get(f"{registry.url}/health", timeout=30).status_code == 200


@contextmanager
def moved_away(path: Path) -> Iterator[None]:
    aside = path.with_name(f"{path.name}-aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


@pytest.fixture
def at_rest(registry: Registry) -> None:
    """The audit's copies are written, which would make the store's folder again."""
    last = registry.audit()[-1]["sequence"]
    deadline = time.monotonic() + 60
    while not (registry.folder / "artifacts" / "tumorflow-audit" / f"{last:08d}.json").exists():
        assert time.monotonic() < deadline, "the audit was not copied"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("artifacts", "The artifact store can be listed."), ("mlflow.db", "The database answers")],
)
def test_a_server_without_a_store_is_alive_and_not_ready(registry, at_rest, name, sentence, capsys):
    assert (alive(registry), ready(registry)) == (True, (200, []))
    assert main(["registry", "check", "--url", registry.url]) == 0
    assert capsys.readouterr().out == "ready\n"
    with moved_away(registry.folder / name):
        code, (told,) = ready(registry)
        assert (code, told.startswith(sentence), alive(registry)) == (503, True, True)
        assert main(["registry", "check", "--url", registry.url]) == 1
        assert "answers /readyz with 200. Received: 503" in capsys.readouterr().err
    assert ready(registry) == (200, [])


def test_the_stores_are_checked_without_a_server(registry, monkeypatch, capsys):
    for name, value in registry.environment.items():
        monkeypatch.setenv(name, value)
    assert main(["registry", "check"]) == 0
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", str(registry.folder / "none"))
    assert main(["registry", "check"]) == 1
    assert "The artifact store can be listed" in capsys.readouterr().err
    nobody = f"http://127.0.0.1:{find_free_port()}"
    assert main(["registry", "check", "--url", nobody]) == 1
    assert "ConnectionError" in capsys.readouterr().err


def test_readiness_and_health_need_no_account_and_all_else_does(registry):
    for path, code in (
        ("/health", 200), ("/readyz", 200), ("/api/2.0/tumorflow/audit", 401), ("/", 401),
        ("/api/2.0/mlflow/registered-models/search", 401), ("/metrics", 401),
    ):  # fmt: skip
        assert requests.get(registry.url + path, timeout=30).status_code == code, path


def test_a_page_of_another_name_gets_no_answer(registry):
    for host in ("elsewhere.example", f"elsewhere.example:{registry.port}", "localhost.elsewhere.example"):
        answer = requests.get(f"{registry.url}/", headers={"Host": host}, timeout=30)
        assert answer.status_code == 403, host


def test_a_port_that_is_taken_is_said(registry, monkeypatch, capsys):
    for name, value in registry.environment.items():
        monkeypatch.setenv(name, value)
    before = (registry.folder / "accounts.ini").stat().st_mtime_ns
    assert main(["registry", "serve", "--port", str(registry.port)]) == 2
    assert f"Received: 127.0.0.1:{registry.port}, Address already in use" in capsys.readouterr().err
    assert (registry.folder / "accounts.ini").stat().st_mtime_ns == before


def members(group: int) -> list[str]:
    """Returns what still runs in a group of processes."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [row[-1] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


def end(server: Registry, ending: signal.Signals) -> str:
    """Returns what a server says at its end, which leaves none of its processes."""
    process = server.process
    assert process is not None
    begun = (server.folder / "server.log").stat().st_size
    if ending == signal.SIGINT:  # as a terminal does, to all of them at once
        os.killpg(process.pid, ending)
    else:  # as a container engine does, to the first one
        os.kill(process.pid, ending)
    assert process.wait(timeout=60) == 0
    deadline = time.monotonic() + 30
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert members(process.pid) == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0
    server.process = None
    return (server.folder / "server.log").read_bytes()[begun:].decode()


def test_a_second_server_on_the_same_folder_is_the_same_registry_and_each_ends_in_peace(registry):
    registry.register("shared")
    names = {"MLFLOW_SERVER_ALLOWED_HOSTS": "registry.hospital.test,localhost:*,127.0.0.1:*"}
    second = Registry(registry.folder, find_free_port(), {**registry.environment, **names})
    second.start()
    try:
        content = {"name": "shared", "version": "1", "key": "review.approve", "value": "by its page"}
        page = {"Host": "registry.hospital.test", "Origin": "https://registry.hospital.test"}
        answer = second.ask("rita", "POST", "model-versions/set-tag", json=content, headers=page)
        assert answer.status_code == 200, "the page is the server's own, behind TLS"
        assert registry.champion("shared") == "1"
        assert second.audit() == registry.audit()
        assert "Traceback" not in end(second, signal.SIGINT)
    finally:
        second.kill()
    assert alive(registry)
    assert "Traceback" not in end(registry, signal.SIGTERM)  # the module's last test
