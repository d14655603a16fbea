"""Batches to learn from: features that were computed once, or images for the whole network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tumorflow.training.augmentation import Augmenter
from tumorflow.training.balance import oversample
from tumorflow.training.features import FeatureFile, view_images
from tumorflow.training.fitting import Batch
from tumorflow.training.splits import Split

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Where batches come from: row `view · slices + position` is one view of one slice."""

    labels: Indices
    """Class index of each slice."""
    views: int
    """Views of each slice in an epoch."""
    batches: Callable[[Indices, int], Iterator[Batch]]
    """Rows, epoch → batches in the order of the rows. In epoch 0 view 0 is the slice itself."""


def draw_rows(labels: Indices, epoch: int, seed: int, oversampled: bool) -> Indices:
    """Returns the rows of one epoch, shuffled; rare classes are repeated where `oversampled`."""
    generator = np.random.default_rng((seed, epoch))
    rows = oversample(labels, int(labels.max()) + 1, generator) if oversampled else np.arange(len(labels))
    return generator.permutation(rows)


def source_of_features(features: FeatureFile, labels: Indices, size: int) -> Source:
    """Returns batches of at most `size` rows of features, the same ones in every epoch.

    Args:
        features: a row a slice and view, as `compute_features` writes them.
        labels: class index of each slice.
        size: rows a batch.
    """

    def batches(rows: Indices, _: int) -> Iterator[Batch]:
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            yield features.read(batch), labels[batch % len(labels)]

    return Source(labels, features.rows // len(labels), batches)


def source_of_images(split: Split, augmenter: Augmenter, views: int, size: int) -> Source:
    """Returns batches of at most `size` images, float32, 0–255; from epoch 1 on each epoch has new views.

    Args:
        split: the slices.
        augmenter: draws the views.
        views: augmented views of each slice in an epoch; 0: the slice itself, once.
        size: images a batch.
    """

    def batches(rows: Indices, epoch: int) -> Iterator[Batch]:
        first_view = 1 + (epoch - 1) * views if epoch and views else 0
        for start in range(0, len(rows), size):
            numbers, positions = np.divmod(rows[start : start + size], len(split))
            images = view_images(split, positions, numbers + first_view, augmenter)
            yield images.astype(np.float32), split.labels[positions]

    return Source(split.labels, max(views, 1), batches)
