"""The split: whole groups go to training, validation or test, class by class, drawn from the seed."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tumorflow.errors import DataError

SPLITS = ("train", "validation", "test")
DRAWS = 32
"""Shuffles among which the best balanced is taken: groups of very unequal size seldom balance at once."""


@dataclass(frozen=True)
class Group:
    """What the split must know of a group; `order` is the smallest content hash in it."""

    name: str
    order: str
    label: str
    slices: int


def describe_groups(
    names: Sequence[str], labels: Sequence[str], content_hashes: Sequence[str], classes: Sequence[str]
) -> list[Group]:
    """Returns the groups of the slices, in the order of their smallest content hash.

    A group whose slices carry different labels counts as the class that most of them have; among equals, as
    the class that fewest slices of the data set have, which can least do without it.
    """
    by_name: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        by_name.setdefault(name, []).append(position)
    totals = Counter(labels)
    groups = []
    for name, positions in by_name.items():
        counts = Counter(labels[position] for position in positions)
        label = max(classes, key=lambda label: (counts[label], -totals[label], -classes.index(label)))
        order = min(content_hashes[position] for position in positions)
        groups.append(Group(name, order, label, len(positions)))
    return sorted(groups, key=lambda group: group.order)


def split_groups(
    groups: Sequence[Group],
    classes: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
    kept: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Returns group name → split: stratified by class, balanced in groups and in slices.

    Args:
        groups: as `describe_groups` returns them; their order does not matter.
        classes: names in label order.
        fractions: split → share, each above 0, together 1.
        seed: the same seed gives the same split, another one another.
        kept: group name → split, for groups that stay where they were; the others fill up the shares.

    Raises:
        DataError: a class has fewer groups than there are splits.
    """
    by_class = {
        label: sorted((group for group in groups if group.label == label), key=lambda group: group.order)
        for label in classes
    }
    scarce = {label: len(members) for label, members in by_class.items() if len(members) < len(fractions)}
    if scarce:
        found = ", ".join(f"'{label}' has {count}" for label, count in scarce.items())
        raise DataError(
            f"Every class has at least {len(fractions)} groups (patients, or slices without near-duplicates "
            f"among each other), one for each of {', '.join(fractions)}. Received: {found}. Add patients of "
            "these classes, or leave the classes out of `classes`."
        )
    assignment: dict[str, str] = {}
    for index, members in enumerate(by_class.values()):
        generator = np.random.default_rng((seed, index))
        shuffled = ([members[at] for at in generator.permutation(len(members))] for _ in range(DRAWS))
        draws = [_deal(groups_in_turn, fractions, kept or {}) for groups_in_turn in shuffled]
        imbalances = [_imbalance(members, draw, fractions) for draw in draws]
        assignment.update(draws[imbalances.index(min(imbalances))])
    return assignment


def _deal(groups: Sequence[Group], fractions: Mapping[str, float], kept: Mapping[str, str]) -> dict[str, str]:
    """Returns group name → split: each group in turn goes where the smallest part of the share is filled.

    Those that are kept come first, and go where they were.
    """
    filled = dict.fromkeys(fractions, 0)
    dealt = {}
    for group in sorted(groups, key=lambda group: group.name not in kept):
        split = kept.get(group.name) or min(fractions, key=lambda split: filled[split] / fractions[split])
        filled[split] += group.slices
        dealt[group.name] = split
    return dealt


def _imbalance(groups: Sequence[Group], draw: Mapping[str, str], fractions: Mapping[str, float]) -> float:
    """Returns how far the splits are from their shares, of groups and of slices; 0 is perfect."""
    slices = sum(group.slices for group in groups)
    distance = 0.0
    for split, fraction in fractions.items():
        members = [group for group in groups if draw[group.name] == split]
        distance += abs(len(members) / len(groups) - fraction)
        distance += abs(sum(group.slices for group in members) / slices - fraction)
    return distance


def hash_split(content_hashes: Sequence[str], splits: Sequence[str]) -> str:
    """Returns SHA-256 over the sorted lines `content_hash split`, as 64 hexadecimal digits."""
    lines = sorted(f"{content} {split}\n" for content, split in zip(content_hashes, splits, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
