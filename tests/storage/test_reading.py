"""Folders as a source."""

import hashlib
import json
import os

import pytest

from tumorflow.errors import SourceError
from tumorflow.storage import fetched, hash_source


def md5(content):
    return hashlib.md5(content).hexdigest()


def test_the_version_is_written_out_by_hand(tmp_path):
    (tmp_path / "data" / "b").mkdir(parents=True)
    (tmp_path / "data" / "b" / "c").write_bytes(b"2")
    (tmp_path / "data" / "a").write_bytes(b"1")
    listed = [{"md5": md5(b"1"), "relpath": "a"}, {"md5": md5(b"2"), "relpath": "b/c"}]
    with fetched(str(tmp_path / "data")) as reading:
        assert reading.folder == tmp_path / "data"
        assert reading.data_hash == md5(json.dumps(listed).encode())


def test_another_version_than_promised_is_refused(folder, tmp_path):
    promised = hash_source(folder, tmp_path / "state")
    with fetched(str(folder), promised):
        pass
    (folder / "a.txt").write_bytes(b"changed")
    with (
        pytest.raises(SourceError, match="changed between submission and reading"),
        fetched(str(folder), promised),
    ):
        pass


@pytest.mark.parametrize("change", ["write", "add", "remove"])
def test_a_folder_that_changes_while_it_is_read_stops_the_step(folder, change):
    def read_and_change():
        with fetched(str(folder)):
            if change == "remove":
                (folder / "a.txt").unlink()
            else:
                (folder / ("a.txt" if change == "write" else "new")).write_bytes(b"changed")

    with pytest.raises(SourceError, match="changed meanwhile"):
        read_and_change()


def test_links_are_followed_and_loops_end(folder, tmp_path):
    with fetched(str(folder)) as reading:
        before = reading.data_hash
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "inner").rename(outside / "inner")
    (folder / "inner").symlink_to(outside / "inner")
    (outside / "inner" / "deep" / "loop").symlink_to(outside / "inner")
    with fetched(str(folder)) as reading:
        assert reading.data_hash == before


def test_what_cannot_be_read_is_left_for_the_step_to_refuse(folder):
    with fetched(str(folder)) as reading:
        before = reading.data_hash
    (folder / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    with fetched(str(folder)) as reading:
        assert reading.data_hash != before


@pytest.mark.parametrize("made", ["nothing", "file"])
def test_no_folder_is_named_without_its_path(tmp_path, made):
    path = tmp_path / "DOE^JANE"
    if made == "file":
        path.write_text("x")
    with pytest.raises(SourceError, match=f"a {made}|{made} at it") as refused, fetched(str(path)):
        pass
    assert "DOE" not in str(refused.value)
