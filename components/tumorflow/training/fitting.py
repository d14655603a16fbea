"""Fitting a network, epoch by epoch, and keeping the best one on the validation split."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.errors import DataError
from tumorflow.progress import track
from tumorflow.tracker import Tracker

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Network input (slices, …) and class indices (slices,)."""


@dataclass(frozen=True)
class Epoch:
    """One row of the history; `val_` is the validation split."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_macro_f1: float
    learning_rate: float


@dataclass(frozen=True)
class Lesson:
    """What a network learns from."""

    training: Callable[[int], Iterator[Batch]]
    """Epoch number, from 1 → its batches."""
    validation: Callable[[], Iterator[Batch]]
    """→ the validation batches, the same ones each time."""
    class_weights: npt.NDArray[np.float64]
    """Weight of each class in the training loss, (classes,)."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    epochs: int
    patience: int
    """Epochs without a better validation loss after which to stop."""
    learning_rate: float


def fit(
    network: Any,
    lesson: Lesson,
    schedule: Schedule,
    tracker: Tracker,
    history: tuple[Epoch, ...] = (),
) -> tuple[Epoch, ...]:
    """Trains `network` in place and returns the history; the network ends with its best epoch's weights.

    The best epoch is the one with the lowest validation loss, in which every slice counts the same.
    Optimiser: Adam (Kingma & Ba 2015, arXiv 1412.6980).

    Args:
        network: Keras model that ends in softmax over the classes.
        lesson: what it learns from.
        schedule: epochs, patience and learning rate.
        tracker: is told each epoch's numbers as soon as they are there.
        history: epochs before; numbering goes on, and if no new epoch is better the network is left as it is.

    Raises:
        DataError: the loss is no finite number any more.
    """
    _compile(network, schedule.learning_rate)
    best_loss = best_epoch(history).val_loss if history else np.inf
    best_weights = network.get_weights()
    waited = 0
    numbers = range(len(history) + 1, len(history) + schedule.epochs + 1)
    for number in track(numbers, len(numbers), "train", "epochs"):
        loss, accuracy = _learn(network, lesson.training(number), lesson.class_weights)
        measures = measure(*answer(network, lesson.validation()))
        epoch = Epoch(number, loss, accuracy, *measures, schedule.learning_rate)
        _check_finite(epoch)
        history = (*history, epoch)
        tracker.log_metrics({name: value for name, value in asdict(epoch).items() if name != "epoch"}, number)
        if epoch.val_loss < best_loss:
            best_loss, best_weights, waited = epoch.val_loss, network.get_weights(), 0
        else:
            waited += 1
        if waited == schedule.patience:
            break
    network.set_weights(best_weights)
    return history


def refit(network: Any, lesson: Lesson, epochs: int, learning_rate: float) -> None:
    """Trains `network` in place for a number of epochs that is known to be good, with nothing held out."""
    _compile(network, learning_rate)
    for epoch in track(range(1, epochs + 1), epochs, "refit", "epochs"):
        _learn(network, lesson.training(epoch), lesson.class_weights)


def best_epoch(history: tuple[Epoch, ...]) -> Epoch:
    """Returns the epoch with the lowest validation loss, the first of equals."""
    return min(history, key=lambda epoch: epoch.val_loss)


def measure(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> tuple[float, float, float]:
    """Returns cross-entropy, accuracy and macro-F1; a class that is neither there nor predicted has F1 0.

    Args:
        probabilities: (slices, classes), rows summing to 1.
        labels: class indices (slices,).
    """
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    loss = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean()
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    is_label, is_predicted = labels[:, None] == classes, predicted[:, None] == classes
    hits = (is_label & is_predicted).sum(axis=0)
    f1 = 2 * hits / np.maximum(is_label.sum(axis=0) + is_predicted.sum(axis=0), 1)
    return float(loss), float((predicted == labels).mean()), float(f1.mean())


def _compile(network: Any, learning_rate: float) -> None:
    import keras

    network.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )


def _learn(
    network: Any, batches: Iterator[Batch], class_weights: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Returns the mean loss and accuracy while learning from each batch once."""
    steps = []
    for inputs, labels in batches:
        weights = class_weights[labels].astype(np.float32)
        step = network.train_on_batch(inputs, labels, sample_weight=weights, return_dict=True)
        steps.append((step["loss"], step["accuracy"], len(labels)))
    losses, accuracies, sizes = np.array(steps).T
    return float(np.average(losses, weights=sizes)), float(np.average(accuracies, weights=sizes))


def answer(network: Any, batches: Iterator[Batch]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Returns a network's probabilities (slices, classes) of batches, and the labels (slices,)."""
    answers = [(network.predict_on_batch(inputs), labels) for inputs, labels in batches]
    probabilities, labels = zip(*answers, strict=True)
    return np.concatenate(probabilities), np.concatenate(labels)


def _check_finite(epoch: Epoch) -> None:
    if not np.isfinite([epoch.loss, epoch.val_loss]).all():
        raise DataError(
            f"The loss is a finite number. Received: {epoch.loss} in training and {epoch.val_loss} in "
            f"validation, epoch {epoch.epoch}. Lower train.learning_rate."
        )
