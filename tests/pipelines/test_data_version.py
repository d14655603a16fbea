import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tumorflow.errors import SourceError
from tumorflow_pipelines.data_version import ResolvedSource, committed_hash, hash_source, resolve_source

STATE = Path("hashes")


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "inner" / "b.txt").write_text("b")
    return folder


def test_the_hash_is_the_one_that_dvc_writes(source):
    dvc = str(Path(sys.executable).parent / "dvc")
    subprocess.run([dvc, "init", "--no-scm", "-q"], check=True, capture_output=True)
    subprocess.run([dvc, "add", "-q", "data"], check=True, capture_output=True)
    promised = yaml.safe_load(Path("data.dvc").read_text())["outs"][0]["md5"]
    assert promised == f"{hash_source(source, STATE)}.dir"
    assert committed_hash(Path("data.dvc")) == hash_source(source, STATE)


def test_the_hash_follows_content_and_names(source):
    before = hash_source(source, STATE)
    assert hash_source(source, STATE) == before
    (source / "a.txt").rename(source / "c.txt")
    renamed = hash_source(source, STATE)
    (source / "c.txt").write_text("changed")
    assert len({before, renamed, hash_source(source, STATE)}) == 3


def test_a_missing_source_is_named(source):
    with pytest.raises(SourceError, match="nothing at it"):
        hash_source(source / "nothing", STATE)


def test_no_promise_where_there_is_no_file(tmp_path):
    assert committed_hash(tmp_path / "data.dvc") == ""


@pytest.mark.parametrize("content", ["[", "outs: []", "nothing: 1", "outs: {md5: 1}"])
def test_a_broken_promise_is_named(tmp_path, content):
    (tmp_path / "data.dvc").write_text(content)
    with pytest.raises(SourceError, match=r"data\.dvc"):
        committed_hash(tmp_path / "data.dvc")


def test_a_folder_resolves_to_where_it_is_and_what_it_holds(source):
    assert resolve_source("data", STATE) == ResolvedSource(str(source), hash_source(source, STATE))
