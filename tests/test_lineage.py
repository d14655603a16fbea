import subprocess

import pytest

from tumorflow import lineage
from tumorflow.chain import STEPS, find_step


def test_a_step_hashes_its_room_and_what_it_imports():
    files = lineage.code_files(find_step("preprocess"))
    assert lineage.PACKAGE / "preprocessing" / "step.py" in files
    assert lineage.PACKAGE / "slices.py" in files
    assert not any("training" in path.parts for path in files)


def test_the_hash_of_code_changes_with_one_character(tmp_path, monkeypatch):
    package = tmp_path / "tumorflow"
    (package / "training").mkdir(parents=True)
    (package / "execution.py").write_text("")
    (package / "shared.py").write_text("x = 1\n")
    (package / "unrelated.py").write_text("y = 1\n")
    (package / "training" / "step.py").write_text("def run():\n    from tumorflow import shared\n")
    monkeypatch.setattr(lineage, "PACKAGE", package)
    step = find_step("train")
    before = lineage.hash_code(step)
    (package / "unrelated.py").write_text("y = 2\n")
    assert lineage.hash_code(step) == before
    (package / "shared.py").write_text("x = 2\n")
    assert lineage.hash_code(step) != before


def test_every_step_has_code_of_its_own():
    assert len({lineage.hash_code(step) for step in STEPS}) == len(STEPS)


def test_content_depends_on_names_and_bytes_but_not_on_the_record(tmp_path):
    (tmp_path / "a").write_text("1")
    before = lineage.hash_content(tmp_path)
    (tmp_path / "record.json").write_text("{}")
    assert lineage.hash_content(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert lineage.hash_content(tmp_path) != before


def test_params_hash_ignores_the_order_of_keys():
    assert lineage.hash_params({"a": 1, "b": 2}) == lineage.hash_params({"b": 2, "a": 1})
    assert lineage.hash_params({"a": 1}) != lineage.hash_params({"a": 2})


def test_the_commit_is_baked_in_or_read(tmp_path, monkeypatch):
    monkeypatch.setenv("TUMORFLOW_GIT_COMMIT", "abc")
    assert lineage.read_git_commit(tmp_path) == "abc"
    monkeypatch.delenv("TUMORFLOW_GIT_COMMIT")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert lineage.read_git_commit(tmp_path) == ""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "a").write_text("1")
    subprocess.run([*git, "add", "a"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-qm", "a"], cwd=tmp_path, check=True)
    clean = lineage.read_git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert lineage.read_git_commit(tmp_path) == f"{clean}-dirty"


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_import_of_a_step_is_a_file_of_this_package(step):
    assert all(path.is_file() for path in lineage.code_files(step))
