"""How much of the data the champion does not know, and whether that is worth a new model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Count:
    """Patients, or slices where the source names no patients, by whether the champion knows them."""

    unit: Literal["patients", "slices"]
    new: int
    known: int


@dataclass(frozen=True)
class Verdict:
    """Whether to train, and why."""

    decision: Literal["train", "stop"]
    reason: Literal["no_champion", "nothing_new", "too_few", "enough"]
    message: str


def count_new(
    patients: Sequence[str], content_hashes: Sequence[str], recognised: npt.NDArray[np.bool_]
) -> Count:
    """Returns how many patients are new: those of whom no slice is recognised.

    Args:
        patients: of each slice; where one is empty, distinct contents are counted in their place.
        content_hashes: of each slice.
        recognised: (n,) whether the champion has met the slice or its patient.
    """
    by_patient = all(patients)
    keys = np.array(patients if by_patient else content_hashes, dtype=object)
    known = set(keys[recognised])
    return Count("patients" if by_patient else "slices", len(set(keys) - known), len(known))


def decide(
    count: Count, required: int, champion: str, data_hash: str = "", champion_data_hash: str = ""
) -> Verdict:
    """Returns the verdict.

    Args:
        count: of the data.
        required: how many new patients (or slices) are worth a new model; at least 1.
        champion: NAME/VERSION; empty: there is none.
        data_hash: content hash of the source; empty: unknown.
        champion_data_hash: of the source that the champion was made from; empty: unknown.
    """
    if not champion:
        return Verdict("train", "no_champion", "There is no champion: the first model is trained.")
    if data_hash and data_hash == champion_data_hash:
        return Verdict("stop", "nothing_new", f"Nothing new: {champion} was made from this very data.")
    if count.new == 0:
        return Verdict(
            "stop", "nothing_new", f"Nothing new: {champion} knows all {count.known} {count.unit}."
        )
    asked = f"{count.new} new {count.unit} since {champion}; at least {required} are asked."
    if count.new < required:
        return Verdict("stop", "too_few", f"Too few: {asked}")
    return Verdict("train", "enough", f"Enough: {asked}")
