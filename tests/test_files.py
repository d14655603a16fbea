import json
from pathlib import Path

import pytest

from tumorflow import files
from tumorflow.errors import SourceError


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_written_folder_appears_whole_and_replaces_the_former(tmp_path):
    target = tmp_path / "artifact"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with files.written_folder(target) as aside:
        (aside / "new.txt").write_text("new")
        assert entries(target) == ["old.txt"]
    assert entries(target) == ["new.txt"]
    assert entries(tmp_path) == ["artifact"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failing_block_leaves_the_former_folder_and_nothing_beside_it(tmp_path, error):
    target = tmp_path / "artifact"
    target.mkdir()
    (target / "old.txt").write_text("old")

    def fail():
        with files.written_folder(target) as aside:
            (aside / "half.txt").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert entries(target) == ["old.txt"]
    assert entries(tmp_path) == ["artifact"]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"µ": 1})
    assert json.loads(path.read_text()) == {"µ": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"nan": float("nan")})
    assert entries(tmp_path) == ["a.json"]
    assert files.read_json(path) == {"µ": 1}


@pytest.mark.parametrize("content", [None, "{not json"])
def test_a_missing_or_broken_json_file_is_named(tmp_path, content):
    path = tmp_path / "record.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SourceError, match=r"record\.json"):
        files.read_json(path)


def test_hash_of_a_known_file(tmp_path):
    path = tmp_path / "abc"
    path.write_text("abc")
    assert files.hash_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
