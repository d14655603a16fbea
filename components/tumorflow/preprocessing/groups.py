"""Groups: the slices that must stay on one side of the split."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from tumorflow.preprocessing.signatures import Pairs

Members = npt.NDArray[np.int64]
GroupsFrom = Literal["patient", "near_duplicates"]

SAME_ACQUISITION_SIMILARITY = 0.6
"""Of noise. On LIDC-IDRI a copy with 10 HU of noise added has at least 0.89, and two slices, even neighbours
in one series, have at most 0.50."""


def groups_from(patients: Sequence[str]) -> GroupsFrom:
    """Returns where groups come from: the patients where every slice has one, else near-duplicates."""
    return "patient" if all(patients) else "near_duplicates"


def group_slices(
    patients: Sequence[str], content_hashes: Sequence[str], similar: Iterable[Pairs]
) -> list[str]:
    """Returns the group of each slice, named after the smallest content hash in it.

    Slices are in one group where they share a patient or a content, or a chain of similar pairs joins them.
    Neither the order of the slices nor the pseudonyms change the outcome.

    Args:
        patients: patient of each slice; empty where unknown.
        content_hashes: of each slice.
        similar: arrays (pairs, 2) of positions of near-duplicates.
    """
    members = np.arange(len(content_hashes), dtype=np.int64)
    for keys in (patients, content_hashes):
        members = join(members, [_pairs_of_equals(keys)])
    members = join(members, similar)
    smallest: dict[int, str] = {}
    for member, content_hash in zip(members.tolist(), content_hashes, strict=True):
        smallest[member] = min(smallest.get(member, content_hash), content_hash)
    return [f"group-{smallest[member][:16]}" for member in members.tolist()]


def join(members: Members, batches: Iterable[Pairs]) -> Members:
    """Returns `members` after the groups that a pair connects became one: the lower number stays."""
    joined = members.copy()
    for pairs in batches:
        apart = pairs[joined[pairs[:, 0]] != joined[pairs[:, 1]]]
        for first, second in apart.tolist():
            low, high = sorted((int(joined[first]), int(joined[second])))
            if low != high:
                joined[joined == high] = low
    return joined


def _pairs_of_equals(keys: Sequence[str]) -> Pairs:
    """Returns (pairs, 2): each position with the first one that has the same key; empty keys equal none."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(key, position), position) for position, key in enumerate(keys) if key]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], dtype=np.intp).reshape(-1, 2)
