"""The recipe: which part of the network learns from what, in which order."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.params import TrainParams
from tumorflow.tracker import Tracker
from tumorflow.training.augmentation import Augmenter, Ranges
from tumorflow.training.balance import balance_weights
from tumorflow.training.batches import draw_rows, feature_batches, image_batches
from tumorflow.training.features import compute_features
from tumorflow.training.fitting import Batch, Epoch, Lesson, Schedule, fit
from tumorflow.training.network import Network, split_network, unfreeze
from tumorflow.training.splits import Tensors


def train(
    network: Network, data: Tensors, params: TrainParams, *, scratch: Path, tracker: Tracker
) -> tuple[Epoch, ...]:
    """Trains `network` in place, its head first, then, if asked for, the backbone too; returns the history.

    Args:
        network: as `build_network` returns it.
        data: the training and validation splits.
        params: the recipe.
        scratch: folder for features.
        tracker: is told each epoch's numbers.

    Raises:
        DataError: a class has no training slices, or the loss is no finite number.
    """
    network.backbone.trainable = False
    schedule = Schedule(params.epochs, params.early_stopping_patience, params.learning_rate)
    if params.cache_features:
        extractor, head = split_network(network, pooled=params.attention == "none")
        history = fit(head, learn_from_features(extractor, data, params, scratch), schedule, tracker)
    else:
        history = fit(network.whole, learn_from_images(data, params), schedule, tracker)
    if params.fine_tune:
        unfreeze(network.backbone)
        slower = replace(schedule, learning_rate=params.fine_tune_learning_rate)
        history = fit(network.whole, learn_from_images(data, params), slower, tracker, history)
    return history


def weigh_classes(data: Tensors, params: TrainParams) -> npt.NDArray[np.float64]:
    """Returns the weight of each class in the training loss, in the order of `params.classes`.

    Raises:
        DataError: a class has no training slices.
    """
    weights = balance_weights(data.training.labels, len(params.classes))
    return weights if params.imbalance == "class_weights" else np.ones_like(weights)


def learn_from_features(extractor: Any, data: Tensors, params: TrainParams, scratch: Path) -> Lesson:
    """Returns the lesson on features of each slice and its augmented views, computed here, once.

    Args:
        extractor: Keras model, images to features.
        data: the training and validation splits.
        params: the recipe.
        scratch: folder for the features: 5 kB a slice and view, at 224 px with attention 250 kB.
    """
    split, held, views = data.training, data.validation, params.augmented_views
    augmenter = _augmenter(data, params)
    features = compute_features(scratch / "training", split, extractor, augmenter, views)
    held_features = compute_features(scratch / "validation", held, extractor, augmenter, views=0)
    rows = np.tile(split.labels, views + 1)

    def training(epoch: int) -> Iterator[Batch]:
        drawn = draw_rows(rows, epoch, params.seed, params.imbalance == "oversampling")
        return feature_batches(features, split.labels, drawn, params.batch_size)

    def validation() -> Iterator[Batch]:
        return feature_batches(held_features, held.labels, np.arange(len(held)), params.batch_size)

    return Lesson(training, validation, weigh_classes(data, params))


def learn_from_images(data: Tensors, params: TrainParams) -> Lesson:
    """Returns the lesson on images, augmented anew in every epoch."""
    split, held, views = data.training, data.validation, max(params.augmented_views, 1)
    augmenter = _augmenter(data, params)
    rows = np.tile(split.labels, views)

    def training(epoch: int) -> Iterator[Batch]:
        drawn = draw_rows(rows, epoch, params.seed, params.imbalance == "oversampling")
        first_view = 1 + (epoch - 1) * views if params.augmented_views else 0
        return image_batches(split, augmenter, drawn, first_view, params.batch_size)

    def validation() -> Iterator[Batch]:
        return image_batches(held, augmenter, np.arange(len(held)), 0, params.batch_size)

    return Lesson(training, validation, weigh_classes(data, params))


def _augmenter(data: Tensors, params: TrainParams) -> Augmenter:
    ranges = Ranges(
        rotation_degrees=params.rotation_degrees,
        shift_fraction=params.shift_fraction,
        shear_fraction=params.shear_fraction,
        zoom_fraction=params.zoom_fraction,
        horizontal_flip=params.horizontal_flip,
    )
    return Augmenter(ranges, data.air, params.seed)
