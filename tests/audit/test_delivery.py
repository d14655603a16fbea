"""What follows a decision, with receivers that die, refuse and lie."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from waiting import wait_until

from tumorflow.errors import ParameterError
from tumorflow.review import delivery
from tumorflow.review.audit import Event
from tumorflow.review.ledger import append, create_table, read
from tumorflow.review.settings import ReviewSettings
from tumorflow.review.signature import DELIVERY_ID, verify

SECRET = "0123456789abcdef0123456789abcdef"


class Listener:
    """A receiver that answers as it is told, and remembers."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[str, int]] = []
        self.unsigned = 0
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.unsigned += not verify(SECRET, dict(self.headers), body, time.time())
                if listener.status == 200:
                    listener.got.append((self.headers[DELIVERY_ID], json.loads(body)["sequence"]))
                self.send_response(listener.status)
                self.send_header("Location", f"http://127.0.0.1:{listener.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def sequences(self) -> list[int]:
        return [sequence for _, sequence in self.got]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(delivery, "POLL_S", 0.05)
    monkeypatch.setattr(delivery, "TAKE_OVER_S", 0.05)
    monkeypatch.setattr(delivery, "LONGEST_WAIT_S", 0.2)


@pytest.fixture
def ledger(engine):
    create_table(engine)
    return engine


@contextmanager
def delivering(engine, destination: str = "", *urls: str) -> Iterator[None]:
    stop = delivery.start(engine, ReviewSettings(webhook_urls=urls, webhook_secret=SECRET), destination)
    try:
        yield
    finally:
        stop()


def decide(engine, *events: Event) -> None:
    for event in events:
        with engine.begin() as connection:
            append(connection, event)


def approved(version: int) -> Event:
    return Event("approved", "rita", "lung", str(version), "good", "ab", str(version - 1), str(version))


def address(listener: Listener) -> str:
    return f"http://user:hush@127.0.0.1:{listener.port}/hook/token"


def test_decisions_arrive_in_order_signed_and_others_do_not(ledger, listener):
    decide(
        ledger,
        Event("registered", "pipeline", "lung", "1"),
        approved(1),
        Event("rejected", "rita", "lung", "2", "poor", "", "1", "1"),
        Event("rolled_back", "rita", "lung", "1", "better", "ab", "3", "1"),
        Event("role_given", "admin", reason="bob: reviewer"),
        Event("rejected", "rita", "lung", "1", "poor", "ab", "1", ""),
    )
    with delivering(ledger, "", address(listener)):
        wait_until(lambda: len(listener.got) == 3)
        decide(ledger, approved(4))
        wait_until(lambda: len(listener.got) == 4)
    assert listener.sequences == [2, 4, 6, 7]
    assert listener.unsigned == 0
    with delivering(ledger, "", address(listener)):  # the server starts again
        decide(ledger, approved(5))
        wait_until(lambda: len(listener.got) == 5)
    assert listener.sequences == [2, 4, 6, 7, 8]


@pytest.mark.parametrize("status", [500, 404, 302, 429])
def test_a_receiver_that_refuses_gets_all_of_it_later_and_holds_up_nobody(ledger, listener, caplog, status):
    other = Listener()
    listener.status = status
    with (
        caplog.at_level(logging.WARNING, delivery.__name__),
        delivering(ledger, "", address(listener), address(other)),
    ):
        decide(ledger, *(approved(version) for version in range(1, 6)))
        wait_until(lambda: other.sequences == [1, 2, 3, 4, 5])
        time.sleep(0.5)
        listener.status = 200
        wait_until(lambda: listener.sequences == [1, 2, 3, 4, 5])
    other.close()
    assert len({delivery_id for delivery_id, _ in listener.got}) == 5
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert f"HTTP {status}" in told[0]
    assert told[1].endswith("takes entries again")
    assert not any(secret in line for line in told for secret in ("hush", "token", SECRET))


def test_a_receiver_that_is_away_gets_all_of_it_when_it_is_back(ledger, listener):
    listener.close()
    with delivering(ledger, "", address(listener)):
        decide(ledger, *(approved(version) for version in range(1, 6)))
        time.sleep(0.5)
        back = ThreadingHTTPServer.__new__(ThreadingHTTPServer)
        ThreadingHTTPServer.__init__(back, ("127.0.0.1", listener.port), listener.server.RequestHandlerClass)
        thread = threading.Thread(target=back.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        wait_until(lambda: listener.sequences == [1, 2, 3, 4, 5])
    back.shutdown()
    back.server_close()


def test_positions_tell_nothing_of_addresses(ledger, listener):
    from sqlalchemy import text

    with delivering(ledger, "", address(listener)):
        decide(ledger, approved(1))
        wait_until(lambda: listener.got)
    with ledger.begin() as connection:
        rows = connection.execute(text(f"SELECT * FROM {delivery.TABLE}")).all()
    assert "hush" not in str(rows)
    assert "127.0.0.1" not in str(rows)


def test_webhooks_need_a_secret(ledger):
    with pytest.raises(ParameterError, match="at least 32"):
        delivery.start(ledger, ReviewSettings(webhook_urls=("https://a.example/",), webhook_secret="x"), "")


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_every_entry_is_exported_and_no_copy_overwritten(ledger, tmp_path, caplog, scheme):
    copies = tmp_path / "artifacts" / "tumorflow-audit"
    copies.mkdir(parents=True)
    (copies / "00000002.json").write_text("planted")
    decide(ledger, Event("registered", "pipeline", "lung", "1"), approved(1), approved(2))
    with delivering(ledger, f"{scheme}{tmp_path}/artifacts"):
        wait_until((copies / "00000003.json").exists)
    with ledger.begin() as connection:
        entries = read(connection)
    assert json.loads((copies / "00000001.json").read_text()) == entries[0].as_json()
    assert (copies / "00000002.json").read_text() == "planted"
    assert json.loads((copies / "00000003.json").read_text()) == entries[2].as_json()
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        "Audit: entry 2 has a copy that says otherwise. Run `tumorflow audit verify`."
    ]


WORKER = """
import os, sys, time
from sqlalchemy import create_engine
from tumorflow.review import delivery
from tumorflow.review.settings import ReviewSettings
uri, url, secret = sys.argv[1:]
delivery.start(create_engine(uri), ReviewSettings(webhook_urls=(url,), webhook_secret=secret), "")
time.sleep(600)
"""


def test_another_worker_takes_over_from_one_that_is_killed(ledger, database_uri, listener):
    command = [sys.executable, "-c", WORKER, database_uri, address(listener), SECRET]
    workers = [subprocess.Popen(command) for _ in range(3)]
    try:
        for turn in range(3):
            decide(ledger, approved(2 * turn + 1), approved(2 * turn + 2))
            wait_until(lambda turn=turn: len(set(listener.got)) == 2 * turn + 2)
            if turn < 2:
                workers[turn].kill()
                workers[turn].wait()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert list(dict.fromkeys(listener.sequences)) == [1, 2, 3, 4, 5, 6]
    assert len(set(listener.got)) == 6
    # who is killed between an answer and its note leaves that one entry to be sent again
    assert len(listener.got) <= 6 + 2
