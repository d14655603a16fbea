"""The split: no group spans it, nothing is lost, order and names do not matter."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumorflow.errors import DataError
from tumorflow.preprocessing.splits import Group, describe_groups, hash_split, split_groups

CLASSES = ("normal", "benign", "malignant")
FRACTIONS = {"train": 0.6, "validation": 0.2, "test": 0.2}


def make_slices(sizes_by_class):
    """(group, label, content hash) of every slice."""
    return [
        (f"{label}-{number}", label, hashlib.sha256(f"{label} {number} {at}".encode()).hexdigest())
        for label, sizes in sizes_by_class.items()
        for number, size in enumerate(sizes)
        for at in range(size)
    ]


def split_slices(slices, seed=7):
    names, labels, hashes = zip(*slices, strict=True)
    assignment = split_groups(describe_groups(names, labels, hashes, CLASSES), CLASSES, FRACTIONS, seed)
    return {content: assignment[name] for name, content in zip(names, hashes, strict=True)}, assignment


cohorts = st.fixed_dictionaries(
    {label: st.lists(st.integers(1, 12), min_size=3, max_size=12) for label in CLASSES}
)


@settings(deadline=None, max_examples=50)
@given(cohorts, st.integers(0, 2**32 - 1))
def test_no_group_spans_splits_and_every_slice_is_assigned_once(sizes, seed):
    slices = make_slices(sizes)
    by_content, assignment = split_slices(slices, seed)
    assert set(by_content) == {content for _, _, content in slices}
    assert set(assignment) == {name for name, _, _ in slices}
    for name, label, content in slices:
        assert by_content[content] == assignment[name]
        assert {assignment[other] for other in assignment if other.startswith(label)} == set(FRACTIONS)


@settings(deadline=None, max_examples=30)
@given(cohorts, st.randoms(use_true_random=False))
def test_rows_in_another_order_and_other_names_give_the_same_split(sizes, order):
    slices = make_slices(sizes)
    shuffled = [
        ("x" + hashlib.md5(name.encode()).hexdigest(), label, content) for name, label, content in slices
    ]
    order.shuffle(shuffled)
    assert split_slices(slices)[0] == split_slices(shuffled)[0]


def test_the_seed_decides():
    slices = make_slices({label: [2] * 20 for label in CLASSES})
    assert split_slices(slices, 1)[0] == split_slices(slices, 1)[0]
    assert split_slices(slices, 1)[0] != split_slices(slices, 2)[0]


def test_even_groups_are_split_in_their_shares():
    _, assignment = split_slices(make_slices({label: [3] * 20 for label in CLASSES}))
    for label in CLASSES:
        splits = [split for name, split in assignment.items() if name.startswith(label)]
        assert {split: splits.count(split) for split in FRACTIONS} == {
            "train": 12,
            "validation": 4,
            "test": 4,
        }


@pytest.mark.parametrize("seed", range(5))
def test_uneven_groups_are_balanced_in_slices_too(seed):
    sizes = [40, 30, 20, *[10] * 6, *[2] * 20, *[1] * 30]
    by_content, _ = split_slices(make_slices(dict.fromkeys(CLASSES, sizes)), seed)
    splits = list(by_content.values())
    for split, fraction in FRACTIONS.items():
        assert splits.count(split) / len(splits) == pytest.approx(fraction, abs=0.05)


def test_a_class_with_too_few_groups_is_named():
    sizes = {"normal": [5] * 4, "benign": [9, 9], "malignant": [1]}
    with pytest.raises(DataError, match=r"at least 3 groups.*'benign' has 2, 'malignant' has 1"):
        split_slices(make_slices(sizes))


def test_a_mixed_group_counts_as_what_most_of_it_is():
    labels = ["normal", "benign", "benign", "normal", "malignant", "normal"]
    groups = describe_groups(["a", "a", "a", "b", "b", "c"], labels, list("123456"), CLASSES)
    # b is a tie: malignant has fewer slices in all than normal
    assert groups == [
        Group("a", "1", "benign", 3),
        Group("b", "4", "malignant", 2),
        Group("c", "6", "normal", 1),
    ]


def test_the_split_hash_is_of_sorted_lines():
    expected = hashlib.sha256(b"a train\nb test\n").hexdigest()
    assert hash_split(["b", "a"], ["test", "train"]) == expected
    assert hash_split(["a", "b"], ["train", "test"]) == expected


def split_again(slices, kept, seed=7):
    names, labels, hashes = zip(*slices, strict=True)
    described = describe_groups(names, labels, hashes, CLASSES)
    return split_groups(described, CLASSES, FRACTIONS, seed, kept)


@settings(deadline=None, max_examples=30)
@given(cohorts, st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_known_groups_stay_where_they_were_and_new_ones_fill_up(sizes, new, seed):
    before = split_slices(make_slices(sizes))[1]
    grown = make_slices({label: [*counts, *[3] * new] for label, counts in sizes.items()})
    after = split_again(grown, before, seed)
    assert {name: after[name] for name in before} == before
    assert set(after) == {name for name, _, _ in grown}


def test_new_groups_go_where_the_smallest_part_of_the_share_is_filled():
    kept = {f"{label}-{number}": "train" for label in CLASSES for number in range(6)}
    after = split_again(make_slices(dict.fromkeys(CLASSES, [2] * 10)), kept)
    for label in CLASSES:
        new = sorted(after[f"{label}-{number}"] for number in range(6, 10))
        assert new == ["test", "test", "validation", "validation"]
