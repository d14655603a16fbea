"""Unequal classes: weights for the loss, or repeated rows. Labels are class indices (slices,), int64."""

import numpy as np
import numpy.typing as npt

from tumorflow.errors import DataError

Indices = npt.NDArray[np.int64]


def balance_weights(labels: Indices, classes: int) -> npt.NDArray[np.float64]:
    """Returns one weight a class, slices / (classes · slices of the class): in sum, each counts the same.

    Source: King & Zeng 2001, "Logistic regression in rare events data".

    Raises:
        DataError: a class has no slice.
    """
    counts = _count(labels, classes)
    return len(labels) / (classes * counts.astype(np.float64))


def oversample(labels: Indices, classes: int, generator: np.random.Generator) -> Indices:
    """Returns every position once, and random ones again until each class is as large as the largest.

    Give it training slices only: repeats made before the split would leak.

    Raises:
        DataError: a class has no slice.
    """
    counts = _count(labels, classes)
    repeats = [
        generator.choice(np.flatnonzero(labels == index), counts.max() - counts[index])
        for index in range(classes)
    ]
    return np.concatenate([np.arange(len(labels)), *repeats]).astype(np.int64)


def _count(labels: Indices, classes: int) -> Indices:
    counts = np.bincount(labels, minlength=classes)
    if not counts.all():
        raise DataError(
            f"Every class has training slices. Received: {counts.tolist()} slices by class index. "
            "Add patients of the empty class, or take it out of classes."
        )
    return counts
