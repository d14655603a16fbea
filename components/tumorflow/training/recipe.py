"""The recipe: which part of the network learns from what, in which order."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumorflow.params import TrainParams
from tumorflow.tracker import Tracker
from tumorflow.training.augmentation import Augmenter, Ranges
from tumorflow.training.balance import balance_weights
from tumorflow.training.batches import Source, draw_rows, source_of_features, source_of_images
from tumorflow.training.calibration import fit_temperature, soften
from tumorflow.training.features import compute_features
from tumorflow.training.fitting import Batch, Epoch, Lesson, Schedule, answer, best_epoch, fit, refit
from tumorflow.training.network import Network, split_network, unfreeze
from tumorflow.training.splits import Split, Tensors, join


def train(
    network: Network, data: Tensors, params: TrainParams, *, scratch: Path, tracker: Tracker
) -> tuple[tuple[Epoch, ...], float]:
    """Trains `network` in place, its head first, then, if asked for, the backbone too.

    Returns the history, and the temperature by which its scores were divided. It is fitted on the validation
    slices before the network learns from them too.

    Args:
        network: as `build_network` returns it.
        data: the training and validation splits.
        params: the recipe.
        scratch: folder for features: 5 kB a slice and view, at 224 px with attention 250 kB.
        tracker: is told each epoch's numbers.

    Raises:
        DataError: a class has no training slices, or the loss is no finite number.
    """
    network.backbone.trainable = False
    slices = join(data.training, data.validation)
    images = source_of_images(slices, draw_augmenter(data, params), params.augmented_views, params.batch_size)
    part, source = network.whole, images
    if params.cache_features:
        extractor, part = split_network(network, pooled=params.attention == "none")
        features = compute_features(
            scratch / "features", slices, extractor, draw_augmenter(data, params), params.augmented_views
        )
        source = source_of_features(features, slices.labels, params.batch_size)
    untrained = part.get_weights()
    schedule = Schedule(params.epochs, params.early_stopping_patience, params.learning_rate)
    history = fit(part, teach(source, data, params), schedule, tracker)
    if params.fine_tune:
        unfreeze(network.backbone)
        slower = replace(schedule, learning_rate=params.fine_tune_learning_rate)
        history = fit(network.whole, teach(images, data, params), slower, tracker, history)
        part, source = network.whole, images
    temperature = fit_temperature(*answer(part, teach(source, data, params).validation()))
    if params.refit and not params.fine_tune:
        part.set_weights(untrained)
        refit(
            part,
            teach(source, data, params, everything=True),
            best_epoch(history).epoch,
            schedule.learning_rate,
        )
    soften(network.whole, temperature)
    return history, temperature


def teach(source: Source, data: Tensors, params: TrainParams, everything: bool = False) -> Lesson:
    """Returns the lesson on the training slices that is checked on the validation slices.

    Args:
        source: batches of training slices, then validation slices.
        data: the splits.
        params: the recipe.
        everything: learn from the validation slices too.
    """
    slices = len(source.labels)
    learned = np.arange(slices if everything else len(data.training))
    held = np.arange(len(data.training), slices)
    rows = np.add.outer(np.arange(source.views) * slices, learned).ravel()
    labels = source.labels[rows % slices]

    def training(epoch: int) -> Iterator[Batch]:
        drawn = draw_rows(labels, epoch, params.seed, params.imbalance == "oversampling")
        return source.batches(rows[drawn], epoch)

    def validation() -> Iterator[Batch]:
        return source.batches(held, 0)

    return Lesson(training, validation, weigh_classes(data.training, params))


def weigh_classes(training: Split, params: TrainParams) -> npt.NDArray[np.float64]:
    """Returns the weight of each class in the training loss, in the order of `params.classes`.

    Raises:
        DataError: a class has no training slices.
    """
    weights = balance_weights(training.labels, len(params.classes))
    return weights if params.imbalance == "class_weights" else np.ones_like(weights)


def draw_augmenter(data: Tensors, params: TrainParams) -> Augmenter:
    """Returns what draws augmented views in the recipe's ranges, filled with the data's air."""
    ranges = Ranges(
        rotation_degrees=params.rotation_degrees,
        shift_fraction=params.shift_fraction,
        shear_fraction=params.shear_fraction,
        zoom_fraction=params.zoom_fraction,
        horizontal_flip=params.horizontal_flip,
    )
    return Augmenter(ranges, data.air, params.seed)
