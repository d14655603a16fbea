"""The folder that follows the champion, with a registry that is played."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tumorflow.champion import receiver
from tumorflow.champion.follower import Follower, Handled, resolve_current
from tumorflow.errors import DataError, UnavailableError, UsageError
from tumorflow.evidence import describe_files, hash_files, hash_manifest
from tumorflow.review import signature
from tumorflow.review.audit import Entry, Event, chain
from tumorflow.review.delivery import serialize

SECRET = "0123456789abcdef0123456789abcdef"


def write_release(folder: Path, version: str, decision: str = "accepted") -> str:
    """Writes a version's files as a follower has them; returns their evidence hash."""
    (folder / "release/tflite").mkdir(parents=True, exist_ok=True)
    for name in ("float32", "dynamic"):
        (folder / f"release/tflite/model_{name}.tflite").write_text(f"model {version}")
    (folder / "release/decision.json").write_text(json.dumps({"decision": decision}))
    (folder / "preprocessing.json").write_text(json.dumps({"version": version}))
    manifest = describe_files(hash_files(folder, "evidence"))
    (folder / "manifest.json").write_bytes(manifest)
    return hash_manifest(manifest)


class Registry:
    """Versions, whose champion is decided on; the audit and the alias agree unless told otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[Entry] = []
        self.champion = ""
        self.fetched: list[str] = []
        self.away = False
        self.told: list[str] = []

    def decide(self, version: str, action: str = "approved", model: str = "lung") -> Entry:
        evidence = write_release(self.folder / f"made-{version}", version)
        champion = "" if action == "rejected" else version
        event = Event(action, "rita", model, version, "why", evidence, self.champion, champion)
        self.entries.append(
            chain(event, "2026-11-24T09:30:00.000Z", self.entries[-1] if self.entries else None)
        )
        if model == "lung":
            self.champion = champion
        return self.entries[-1]

    def read(self, after: int) -> list[Entry]:
        if self.away:
            raise UnavailableError("away")
        return [entry for entry in self.entries if entry.sequence > after]

    def fetch(self, model: str, version: str, evidence_hash: str, folder: Path) -> None:
        self.fetched.append(version)
        write_release(folder, version)

    def follower(self, name: str = "service") -> Follower:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return Follower(
            "lung", folder, self.read, lambda model: self.champion, self.fetch, tell=self.told.append
        )


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path)


def version_in(follower: Follower) -> str:
    current = resolve_current(follower.folder)
    return json.loads((current / "version.json").read_text())["version"] if current else ""


def test_it_takes_each_champion_and_the_former_one_back_without_fetching_again(registry):
    follower = registry.follower()
    assert follower.catch_up() == Handled()
    registry.decide("1")
    follower.catch_up()
    registry.decide("2")
    follower.catch_up()
    registry.decide("1", "rolled_back")
    follower.catch_up()
    follower.catch_up()
    assert version_in(follower) == "1"
    assert registry.fetched == ["1", "2"]
    assert [line.split(",")[0] for line in registry.told] == [
        "champion: lung/1", "champion: lung/2", "champion: lung/1",
    ]  # fmt: skip


def test_a_withdrawn_champion_leaves_none(registry):
    follower = registry.follower()
    registry.decide("1")
    follower.catch_up()
    registry.decide("1", "rejected")
    follower.catch_up()
    assert resolve_current(follower.folder) is None
    assert registry.told[-1] == "champion: lung has none any more; current is removed"


def test_a_reader_sees_one_whole_version_through_fifty_swaps(registry):
    follower = registry.follower()
    registry.decide("0")
    follower.catch_up()
    torn: list[str] = []
    seen: set[str] = set()
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            current = resolve_current(follower.folder)
            if current is None:
                torn.append("gone")
                return
            version = json.loads((current / "version.json").read_text())["version"]
            models = {path.read_text() for path in current.glob("release/tflite/*.tflite")}
            if models != {f"model {version}"}:
                torn.append(version)
            seen.add(version)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(50):
        registry.decide(str(turn % 3))
        follower.catch_up()
    ended.set()
    reader.join()
    assert torn == []
    assert seen == {"0", "1", "2"}


def test_the_last_three_champions_are_kept(registry):
    follower = registry.follower()
    for version in ("1", "2", "3", "4", "5"):
        registry.decide(version)
        follower.catch_up()
    kept = {path.name.partition("-")[0] for path in (follower.folder / "versions").iterdir()}
    assert kept == {"3", "4", "5"}


def test_a_damaged_version_is_fetched_again(registry):
    follower = registry.follower()
    registry.decide("1")
    follower.catch_up()
    (resolve_current(follower.folder) / "release/tflite/model_float32.tflite").write_text("damaged")
    follower.catch_up()
    assert (resolve_current(follower.folder) / "release/tflite/model_float32.tflite").read_text() == "model 1"
    assert not list(follower.folder.rglob("*.partial"))


def test_files_that_were_not_decided_on_are_not_taken(registry):
    follower = registry.follower()
    registry.decide("1")
    follower.catch_up()
    registry.decide("2")

    def tampered(model: str, version: str, evidence_hash: str, folder: Path) -> None:
        write_release(folder, version)
        (folder / "release/tflite/model_float32.tflite").write_text("another")

    follower.fetch = tampered
    with pytest.raises(
        DataError, match=r"lung/2, where evidence/release/tflite/model_float32.tflite was changed"
    ):
        follower.catch_up()
    assert version_in(follower) == "1"
    follower.fetch = registry.fetch
    follower.catch_up()
    assert version_in(follower) == "2"


def test_an_audit_that_was_cut_rewritten_or_contradicted_is_not_followed(registry):
    follower = registry.follower()
    registry.decide("1")
    registry.decide("2")
    follower.catch_up()
    entries = list(registry.entries)
    registry.entries = entries[:1]
    with pytest.raises(DataError, match="Entry 2 is not the one that was handled"):
        follower.catch_up()
    registry.entries = []
    registry.decide("3")
    registry.decide("1")
    registry.decide("3")
    with pytest.raises(DataError, match="Entry 2 is not the one that was handled"):
        follower.catch_up()
    registry.entries = entries
    registry.champion = "1"  # the alias was moved past the server
    with pytest.raises(DataError, match="Received: lung/1, and by the audit lung/2"):
        follower.catch_up()
    assert version_in(follower) == "2"


def test_one_folder_is_one_process_and_one_model(registry):
    follower = registry.follower()
    registry.decide("1")
    with follower.alone():
        follower.catch_up()
        with pytest.raises(UsageError, match="where another one does"):
            registry.follower().alone()
    follower.model = "liver"
    with pytest.raises(UsageError, match="which follows lung"):
        follower.catch_up()


def test_two_followers_follow_alike(registry):
    first, second = registry.follower("a"), registry.follower("b")
    for version in ("1", "2"):
        registry.decide(version)
        first.catch_up()
    second.catch_up()
    assert version_in(first) == version_in(second) == "2"


KILLED = """
import shutil, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from test_follower import Registry, resolve_current
registry = Registry(Path({folder!r}))
follower = registry.follower()
print("ready", flush=True)
while True:
    for version in "123":
        registry.entries, registry.champion = [], ""
        registry.decide(version)
        (follower.folder / "handled.json").unlink(missing_ok=True)
        for path in (follower.folder / "versions").glob("*"):
            if path != resolve_current(follower.folder):
                shutil.rmtree(path)
        follower.catch_up()
"""


def test_whenever_it_is_killed_the_next_start_is_whole(registry, tmp_path):
    for turn in range(8):
        code = KILLED.format(here=str(Path(__file__).parent), folder=str(tmp_path))
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(0.05 + 0.013 * turn)
        process.kill()
        process.communicate()
        current = resolve_current(tmp_path / "service")
        if current is not None:  # as it was left
            version = json.loads((current / "version.json").read_text())["version"]
            assert {p.read_text() for p in current.glob("release/tflite/*")} == {f"model {version}"}
        registry.entries, registry.champion = [], ""
        registry.decide("2")
        (tmp_path / "service" / "handled.json").unlink(missing_ok=True)
        follower = registry.follower()
        follower.catch_up()
        assert version_in(follower) == "2"
        assert not list(follower.folder.rglob("*.partial"))


def post(follower: Follower, body: bytes, headers: dict[str, str]) -> int:
    scope = {
        "type": "http", "method": "POST", "path": "/champion",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    return asyncio.run(receiver.respond(scope, receive, follower, SECRET, lambda error: None))[0]


def signed(entry: Entry, at: int = 0) -> tuple[bytes, dict[str, str]]:
    body = serialize(entry)
    return body, signature.sign(SECRET, "x", int(time.time()) + at, body)


def test_webhooks_out_of_order_repeated_or_of_another_model_are_taken_once(registry):
    follower = registry.follower()
    entries = [registry.decide(version) for version in ("1", "2", "3")]
    other = registry.decide("9", model="liver")
    assert post(follower, *signed(other)) == 200
    assert version_in(follower) == ""
    assert [post(follower, *signed(entry)) for entry in (entries[2], entries[0], entries[1], entries[2])] == [
        200
    ] * 4
    assert registry.fetched == ["3"]
    assert version_in(follower) == "3"


def test_a_webhook_is_taken_later_where_the_registry_is_away_or_behind(registry):
    follower = registry.follower()
    entry = registry.decide("1")
    registry.away = True
    assert post(follower, *signed(entry)) == 503
    registry.away = False
    future = chain(entry.event, entry.at, entry)
    assert post(follower, *signed(future)) == 503  # a genuine signature moves nothing that the audit lacks
    assert post(follower, *signed(entry)) == 200
    assert post(follower, *signed(entry, at=-400)) == 401
    body, headers = signed(entry)
    assert post(follower, body.replace(b"why", b"who"), headers) == 401
    assert post(follower, b"[]", signature.sign(SECRET, "x", int(time.time()), b"[]")) == 400
    assert version_in(follower) == "1"
