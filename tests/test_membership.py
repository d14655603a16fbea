import hashlib

import numpy as np
import pandas as pd
import pytest

from tumorflow import membership
from tumorflow.errors import SourceError

NEW = "9" * 64
INDEX = pd.DataFrame(
    {
        "split": ["train", "train", "validation", "test"],
        "group": ["group-1", "group-1", "group-2", "group-3"],
        "patient": ["P-1", "P-1", "P-2", "P-3"],
        "content_hash": ["a" * 64, "b" * 64, "c" * 64, "d" * 64],
        "sex": ["F", "F", "M", "M"],
    }
)


def test_a_digest_is_the_start_of_a_hash_over_kind_and_name():
    expected = hashlib.sha256(b"tumorflow patient\0P-1").hexdigest()[:16]
    assert membership.digest("patient", "P-1") == expected
    assert membership.digest("slice", "P-1") != expected
    assert membership.digest("patient", "") == ""


def test_members_carry_nothing_but_splits_and_digests(tmp_path):
    table = membership.describe_members(INDEX)
    assert list(table.columns) == ["split", "group", "patient", "slice"]
    assert table["split"].tolist() == ["test", "train", "train", "validation"]
    table.to_parquet(tmp_path / "groups.parquet", index=False)
    written = (tmp_path / "groups.parquet").read_bytes()
    assert not [
        name
        for column in ("group", "patient", "content_hash")
        for name in INDEX[column]
        if name.encode() in written
    ]
    pd.testing.assert_frame_equal(membership.read_members(tmp_path / "groups.parquet"), table)


def test_the_order_of_the_index_does_not_matter():
    again = membership.describe_members(INDEX.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(membership.describe_members(INDEX), again)


@pytest.mark.parametrize(
    ("patient", "content", "splits", "known"),
    [
        ("P-1", NEW, ("train",), True),  # a new slice of a known patient
        ("P-9", "a" * 64, ("train",), True),  # a known slice under another pseudonym
        ("P-2", NEW, ("train",), False),  # of the validation split
        ("P-2", NEW, ("train", "validation"), True),
        ("P-3", "d" * 64, ("train", "validation"), False),
        ("P-9", NEW, ("train", "validation", "test"), False),
        ("", NEW, ("train",), False),
        ("", "b" * 64, ("train",), True),
    ],
)
def test_recognises_by_patient_or_content(patient, content, splits, known):
    members = membership.describe_members(INDEX)
    assert membership.recognise(members, [patient], [content], splits).tolist() == [known]


def test_slices_without_patient_do_not_know_each_other():
    members = membership.describe_members(INDEX.assign(patient=""))
    found = membership.recognise(members, ["", ""], ["a" * 64, NEW], ("train",))
    np.testing.assert_array_equal(found, [True, False])


def test_groups_go_where_their_members_were():
    members = membership.describe_members(INDEX)
    names = ["a", "a", "b", "c", "c", "d", "e"]
    patients = ["P-3", "P-9", "P-2", "P-3", "P-2", "P-9", ""]
    contents = [NEW, NEW, NEW, NEW, NEW, NEW, "a" * 64]
    found = membership.former_splits(members, names, patients, contents)
    # a: tested on, with a new patient; c: tested and tuned on; d: new; e: known by its content
    assert found == {"a": "test", "b": "validation", "c": "validation", "e": "train"}


@pytest.mark.parametrize("content", [b"no table", None])
def test_an_unreadable_table_is_refused(tmp_path, content):
    path = tmp_path / "groups.parquet"
    if content:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"readable groups\.parquet"):
        membership.read_members(path)
