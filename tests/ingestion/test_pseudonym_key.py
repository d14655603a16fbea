"""The pseudonym key: where it comes from, and which ones are refused."""

import multiprocessing
import stat

import pytest

from tumorflow.errors import ParameterError, UnavailableError
from tumorflow.ingestion.pseudonym_key import VARIABLE, key_id, load_or_create_key, parse_key

GOOD = "9d3c0a71e5b84f26c01d7ea4932b68f5"


def test_the_environment_comes_first(monkeypatch):
    monkeypatch.setenv(VARIABLE, f" {GOOD}\n")
    assert load_or_create_key() == bytes.fromhex(GOOD)


@pytest.mark.parametrize(
    "weak",
    [
        "changeme",
        GOOD[:30],
        GOOD + "0",
        "0" * 64,
        "deadbeef" * 8,
        "0123456789abcdef" * 4,
        bytes(range(32)).hex(),
        "zz" * 16,
    ],
)
def test_weak_keys_are_refused_and_not_repeated(weak):
    with pytest.raises(ParameterError) as error:
        parse_key(weak, origin=VARIABLE)
    assert weak not in str(error.value)


def test_a_file_is_made_once_for_its_owner_only(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    key = load_or_create_key()
    assert len(key) == 32
    assert load_or_create_key() == key
    path = tmp_path / "tumorflow" / "pseudonym.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["pseudonym.key"]
    path.chmod(0o644)
    with pytest.raises(ParameterError, match="owner only"):
        load_or_create_key()


def test_a_relative_data_home_is_ignored(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    load_or_create_key()
    assert (tmp_path / ".local" / "share" / "tumorflow" / "pseudonym.key").exists()


def test_a_place_that_cannot_hold_the_key(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    (tmp_path / "tumorflow").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(UnavailableError, match=VARIABLE):
        load_or_create_key()


def _load(queue, start):
    start.wait()
    queue.put(load_or_create_key())


def test_processes_that_race_get_one_key(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    queue, start = context.Queue(), context.Event()
    workers = [context.Process(target=_load, args=(queue, start)) for _ in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    keys = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(keys) == 1


def test_the_fingerprint_tells_keys_apart():
    first, second = bytes.fromhex(GOOD), bytes.fromhex(GOOD[::-1])
    assert len(key_id(first)) == 12
    assert key_id(first) != key_id(second)
