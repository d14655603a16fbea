"""Batches to learn from: features that were computed once, or images for the whole network."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tumorflow.training.augmentation import Augmenter
from tumorflow.training.balance import oversample
from tumorflow.training.features import FeatureFile, view_images
from tumorflow.training.fitting import Batch
from tumorflow.training.splits import Split

Indices = npt.NDArray[np.int64]


def draw_rows(labels: Indices, epoch: int, seed: int, oversampled: bool) -> Indices:
    """Returns the rows of one epoch, shuffled; rare classes are repeated where `oversampled`."""
    generator = np.random.default_rng((seed, epoch))
    rows = oversample(labels, int(labels.max()) + 1, generator) if oversampled else np.arange(len(labels))
    return generator.permutation(rows)


def feature_batches(features: FeatureFile, labels: Indices, rows: Indices, size: int) -> Iterator[Batch]:
    """Yields batches of at most `size` rows of features, in the order of `rows`.

    Args:
        features: one row a slice and view, the slices of one view together.
        labels: class index of each slice.
        rows: which rows.
        size: rows a batch.
    """
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        yield features.read(batch), labels[batch % len(labels)]


def image_batches(
    split: Split, augmenter: Augmenter, rows: Indices, first_view: int, size: int
) -> Iterator[Batch]:
    """Yields batches of at most `size` images, float32, 0–255, in the order of `rows`.

    Args:
        split: the slices.
        augmenter: draws the views.
        rows: row `r` is view `first_view + r // slices` of slice `r % slices`.
        first_view: 0 for the slices themselves; other numbers are augmented views.
        size: images a batch.
    """
    for start in range(0, len(rows), size):
        views, positions = np.divmod(rows[start : start + size], len(split))
        images = view_images(split, positions, views + first_view, augmenter)
        yield images.astype(np.float32), split.labels[positions]
