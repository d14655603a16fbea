"""The manifest of a version's evidence, with hashes written out by hand."""

import hashlib

import pytest

from tumorflow.evidence import (
    MANIFEST,
    NEEDED,
    describe_files,
    find_differences,
    hash_files,
    hash_manifest,
    read_manifest,
)

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
WHOLE = dict.fromkeys(NEEDED, ABC)


def test_the_manifest_is_the_same_bytes_whatever_the_order():
    manifest = describe_files({"model/b": EMPTY, "evidence/ä": ABC})
    assert manifest == describe_files({"evidence/ä": ABC, "model/b": EMPTY})
    expected = f'{{\n  "files": {{\n    "evidence/\\u00e4": "{ABC}",\n    "model/b": "{EMPTY}"\n  }}\n}}\n'
    assert manifest.decode() == expected
    assert hash_manifest(manifest) == hashlib.sha256(expected.encode()).hexdigest()
    assert read_manifest(manifest) == {"evidence/ä": ABC, "model/b": EMPTY}


def test_hashes_every_file_but_the_manifest(tmp_path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "b.txt").write_bytes(b"abc")
    (tmp_path / "a b").write_bytes(b"")
    (tmp_path / "manifest.json").write_bytes(b"abc")
    assert hash_files(tmp_path, "evidence") == {"evidence/a b": EMPTY, "evidence/data/deep/b.txt": ABC}
    assert "model/manifest.json" in hash_files(tmp_path, "model"), "only the evidence's own is left out"


def test_what_is_as_it_was_has_no_differences():
    assert find_differences(describe_files(WHOLE), WHOLE) == []
    assert find_differences(describe_files(WHOLE), {**WHOLE, MANIFEST: EMPTY}) == []


def test_a_changed_a_missing_and_an_added_file_are_told_in_order():
    manifest = describe_files({**WHOLE, "evidence/a": ABC, "evidence/c": ABC})
    found = {**WHOLE, "model/MLmodel": EMPTY, "evidence/b": ABC, "evidence/c": ABC}
    assert find_differences(manifest, found) == [
        "evidence/a is missing.",
        "evidence/b was added.",
        "model/MLmodel was changed.",
    ]


@pytest.mark.parametrize("needed", NEEDED)
def test_a_manifest_without_what_a_reviewer_needs_is_told(needed):
    lacking = {path: digest for path, digest in WHOLE.items() if path != needed}
    assert find_differences(describe_files(lacking), lacking) == [
        f"{needed} is not in the manifest, and needed."
    ]


@pytest.mark.parametrize("bad", [b"", b"{}", b"[]", b'{"files": ["a"]}', b"\xff\xfe", b"nan", b"[" * 100_000])
def test_what_is_no_manifest_lists_nothing(bad):
    assert read_manifest(bad) == {}
    assert len(find_differences(bad, {})) == len(NEEDED)
