"""What follows a decision: copies of the audit in the artifact store, and signed webhooks.

Both read the ledger behind a position of their own, which moves only when the receiver has taken an entry:
each is delivered at least once and in order, whatever dies. Every worker of the server runs the same threads;
a lock that dies with its process lets one of them work.
"""

import fcntl
import hashlib
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tumorflow.review import ledger, signature
from tumorflow.review.audit import Entry, Event
from tumorflow.review.settings import ReviewSettings

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

TABLE = "tumorflow_deliveries"
FOLDER = "tumorflow-audit"
"""Of the copies, in the artifact store."""
POLL_S = 1.0
TAKE_OVER_S = 2.0
LONGEST_WAIT_S = 60.0
CONNECT_S, ANSWER_S = 5, 60  # a receiver answers when it has taken the champion, whose files it fetches first

_log = logging.getLogger(__name__)


class DeliveryError(Exception):
    """A receiver did not take an entry; the text holds no secret."""


@dataclass(frozen=True)
class Receiver:
    """Who takes entries, one after the other."""

    name: str
    """Of its position; tells nothing of its address."""
    label: str
    """For the log."""
    take: Callable[[Entry], None]
    """Returns when the entry is kept or needs no keeping; any error: it is offered again."""


def start(engine: "Engine", settings: ReviewSettings, artifact_destination: str) -> Callable[[], None]:
    """Returns what stops the delivery, after starting a thread for each receiver.

    Args:
        engine: of MLflow's database.
        settings: who gets webhooks, and what signs them.
        artifact_destination: of the server, a folder or an address; empty: nothing is exported.

    Raises:
        ParameterError: there are receivers of webhooks, and no secret that is long enough.
    """
    from sqlalchemy import text

    if settings.webhook_urls:
        signature.check_secret(settings.webhook_secret)
    ledger.create_table(engine)
    with engine.begin() as connection:
        ledger.lock(connection)
        connection.execute(
            text(f"CREATE TABLE IF NOT EXISTS {TABLE} (receiver TEXT PRIMARY KEY, sequence INTEGER NOT NULL)")
        )
    receivers = [webhook(url, settings.webhook_secret) for url in settings.webhook_urls]
    if artifact_destination:
        receivers.append(exporter(artifact_destination))
    stopping = threading.Event()
    threads = [
        threading.Thread(target=Delivery(engine, receiver, stopping).run, name=receiver.name, daemon=True)
        for receiver in receivers
    ]
    for thread in threads:
        thread.start()

    def stop() -> None:
        stopping.set()
        for thread in threads:
            thread.join(timeout=2 * CONNECT_S)

    return stop


def moves_champion(event: Event) -> bool:
    """Returns whether receivers of webhooks are told: of every approval and rollback, and of a rejection that
    takes the champion away."""
    return event.action in ("approved", "rolled_back") or (
        event.action == "rejected" and event.champion != event.previous_champion
    )


@dataclass
class Delivery:
    """One receiver's way through the ledger."""

    engine: "Engine"
    receiver: Receiver
    stopping: threading.Event
    trouble: str = ""
    failures: int = field(default=0)

    def run(self) -> None:
        """Delivers until it is stopped, in turns with the same receiver's threads elsewhere."""
        while not self.stopping.is_set():
            try:
                with leading(self.engine, self.receiver.name) as connection:
                    wait_s = POLL_S
                    while connection is not None and not self.stopping.wait(wait_s):
                        wait_s = self.deliver(connection)
            except Exception as error:  # noqa: BLE001 - the database may be away in any way; the thread stays
                self.tell(f"database: {type(error).__name__}")
            self.stopping.wait(TAKE_OVER_S)

    def deliver(self, connection: "Connection") -> float:
        """Returns the seconds to wait until the next try, after delivering what is new."""
        for entry in ledger.read(connection, read_position(connection, self.receiver.name)):
            if self.stopping.is_set():
                break
            try:
                self.receiver.take(entry)
            except Exception as error:  # noqa: BLE001 - whatever a receiver does: it is offered the entry again
                self.failures += 1
                kind = str(error) if isinstance(error, DeliveryError) else type(error).__name__
                self.tell(f"entry {entry.sequence} is not taken, and is offered again ({kind})")
                return min(POLL_S * 2.0 ** min(self.failures, 10), LONGEST_WAIT_S)
            write_position(connection, self.receiver.name, entry.sequence)
            self.failures = 0
            self.tell("")
        return POLL_S

    def tell(self, trouble: str) -> None:
        """Writes to the log when the state is another than before."""
        if trouble != self.trouble:
            self.trouble = trouble
            _log.warning("%s: %s", self.receiver.label, trouble or "takes entries again")


@contextmanager
def leading(engine: "Engine", name: str) -> "Iterator[Connection | None]":
    """Yields a connection while no other process delivers to the receiver; None: one does.

    The lock is the connection's own (PostgreSQL) or that of an open file beside the database (SQLite): it
    ends with the process that holds it.
    """
    from sqlalchemy import text

    with engine.connect() as pooled:
        connection = pooled.execution_options(isolation_level="AUTOCOMMIT")
        if engine.dialect.name == "postgresql":
            key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
            taken = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar_one()
            if taken:
                connection.detach()  # closed at the end, not given back to the pool with the lock on it
            yield connection if taken else None
        else:
            with Path(f"{engine.url.database}.{name}.lock").open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield None
                else:
                    yield connection


def read_position(connection: "Connection", name: str) -> int:
    """Returns the sequence of the last entry that a receiver has taken; 0: none."""
    from sqlalchemy import text

    query = text(f"SELECT sequence FROM {TABLE} WHERE receiver = :name")  # noqa: S608 - a constant
    return int(connection.execute(query, {"name": name}).scalar_one_or_none() or 0)


def write_position(connection: "Connection", name: str, sequence: int) -> None:
    """Keeps how far a receiver is; it never goes back."""
    from sqlalchemy import text

    connection.execute(
        text(
            f"INSERT INTO {TABLE} (receiver, sequence) VALUES (:name, :sequence) ON CONFLICT (receiver) "  # noqa: S608 - a constant
            f"DO UPDATE SET sequence = excluded.sequence WHERE excluded.sequence > {TABLE}.sequence"
        ),
        {"name": name, "sequence": sequence},
    )


def webhook(url: str, secret: str) -> Receiver:
    """Returns the receiver behind an address, which gets signed decisions."""
    import requests

    session = requests.Session()
    session.trust_env = False  # neither a proxy nor a .netrc comes between

    def take(entry: Entry) -> None:
        if not moves_champion(entry.event):
            return
        body = serialize(entry)
        headers = {"Content-Type": "application/json"} | signature.sign(
            secret, delivery_id(entry), int(time.time()), body
        )
        with session.post(
            url, data=body, headers=headers, timeout=(CONNECT_S, ANSWER_S), allow_redirects=False, stream=True
        ) as reply:
            if not 200 <= reply.status_code < 300:
                raise DeliveryError(f"HTTP {reply.status_code}")

    address = urlsplit(url)
    place = f"{address.scheme}://{address.hostname}" + (f":{address.port}" if address.port else "")
    return Receiver(_name("webhook", url), f"Webhook to {place}", take)


def delivery_id(entry: Entry) -> str:
    """Returns what a decision's deliveries have in common, however often it is sent."""
    return f"{entry.sequence}-{entry.entry_hash[:16]}"


def serialize(entry: Entry) -> bytes:
    """Returns an entry as JSON; always the same bytes."""
    return json.dumps(entry.as_json(), sort_keys=True).encode()


def exporter(destination: str) -> Receiver:
    """Returns the receiver that copies entries to the artifact store, and never overwrites a copy."""

    def take(entry: Entry) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(copies_at(destination))
        name = copy_name(entry.sequence)
        with tempfile.TemporaryDirectory(prefix="tumorflow-audit-") as aside:
            if any(file.path == name for file in repository.list_artifacts()):
                kept = Path(repository.download_artifacts(name, dst_path=aside)).read_bytes()
                if kept != serialize(entry):
                    _log.error(
                        "Audit: entry %d has a copy that says otherwise. Run `tumorflow audit verify`.",
                        entry.sequence,
                    )
                return
            path = Path(aside) / name
            path.write_bytes(serialize(entry))
            repository.log_artifact(str(path))

    return Receiver(_name("export", destination), "Export of the audit", take)


def copies_at(destination: str) -> str:
    """Returns where the copies are in an artifact store."""
    return f"{destination.rstrip('/')}/{FOLDER}"


def copy_name(sequence: int) -> str:
    """Returns the name of an entry's copy."""
    return f"{sequence:08d}.json"


def _name(kind: str, address: str) -> str:
    return f"{kind}-{hashlib.sha256(address.encode()).hexdigest()[:16]}"
