"""Metrics of a classifier's probabilities, for many weightings of the slices at once.

n: slices (or patients); c: classes; r: weightings. `truth` is (n,) int64 in 0 to c − 1, `probabilities`
(n, c) float64 with rows that sum to 1, `weights` (r, n) float64 of at least 0. A weight of 2 counts a slice
twice, so one row of ones gives the plain metrics and one row of multiplicities those of a bootstrap resample.
What is not defined (the recall of a class without slices) is not-a-number, never a guess.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def measure(
    truth: Integers, probabilities: Floats, weights: Floats, classes: Sequence[str], bins: int
) -> dict[str, Floats]:
    """Returns every metric by name, each (r,) float64: fractions of 1, `brier` 0 to 2; NaN where undefined.

    Macro averages and balanced accuracy are over all `classes`, and undefined if one has no slices.
    """
    confusion = confusion_matrices(truth, probabilities.argmax(axis=1), weights, len(classes))
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    actual, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    precision, recall = divide(hits, predicted), divide(hits, actual)
    f1 = np.where(actual > 0, divide(2 * hits, actual + predicted), np.nan)
    auc = roc_aucs(truth, probabilities, weights)
    measured = {
        "accuracy": divide(hits.sum(axis=1), confusion.sum(axis=(1, 2))),
        "balanced_accuracy": recall.mean(axis=1),
        "macro_f1": f1.mean(axis=1),
        "macro_auc": auc.mean(axis=1),
        "calibration_error": calibration_errors(truth, probabilities, weights, bins),
        "brier": brier_scores(truth, probabilities, weights),
    }
    by_class = {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auc": auc,
        "calibration_error": class_calibration_errors(truth, probabilities, weights, bins),
    }
    for kind, values in by_class.items():
        measured |= {f"{kind}_{name}": values[:, index] for index, name in enumerate(classes)}
    return measured


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """Returns the quotient, NaN where the denominator is 0."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def confusion_matrices(truth: Integers, predicted: Integers, weights: Floats, classes: int) -> Floats:
    """Returns (r, c, c): the weight of the slices of actual class (rows) and predicted class (columns)."""
    cells = np.zeros((len(truth), classes * classes))
    cells[np.arange(len(truth)), truth * classes + predicted] = 1.0
    return (weights @ cells).reshape(-1, classes, classes)


def roc_aucs(truth: Integers, probabilities: Floats, weights: Floats) -> Floats:
    """Returns (r, c): the area under each class's one-vs-rest ROC curve, 0 to 1.

    It is the weighted share of (member, other) pairs in which the member has the higher probability; ties
    count half (Hanley and McNeil 1982). Undefined without members or without others.
    """
    areas = np.full((len(weights), probabilities.shape[1]), np.nan)
    if len(truth) == 0:
        return areas
    for index in range(probabilities.shape[1]):
        order = np.argsort(probabilities[:, index], kind="stable")
        scores, member = probabilities[order, index], truth[order] == index
        starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
        members = np.add.reduceat(weights[:, order] * member, starts, axis=1)
        others = np.add.reduceat(weights[:, order] * ~member, starts, axis=1)
        below = others.cumsum(axis=1) - others / 2
        areas[:, index] = divide((members * below).sum(axis=1), members.sum(axis=1) * others.sum(axis=1))
    return areas


def bin_of(confidence: Floats, bins: int) -> Integers:
    """Returns (n,) each confidence's bin, 0 to bins − 1, of equal widths, (low, high] (Guo et al. 2017)."""
    return np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True).astype(np.int64)


def calibration_errors(truth: Integers, probabilities: Floats, weights: Floats, bins: int) -> Floats:
    """Returns (r,) the expected calibration error of the top label, 0 to 1.

    The mean gap between confidence and accuracy a bin, weighted by its slices (Naeini et al. 2015, Guo et al.
    2017).
    """
    return _mean_gap(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth, weights, bins)


def class_calibration_errors(truth: Integers, probabilities: Floats, weights: Floats, bins: int) -> Floats:
    """Returns (r, c) the expected calibration error of each class's probability, 0 to 1.

    The mean gap between the probability and the class's share a bin, weighted by the bin's slices (class-wise
    ECE, Kull et al. 2019).
    """
    of_class = [
        _mean_gap(probabilities[:, label], truth == label, weights, bins)
        for label in range(probabilities.shape[1])
    ]
    return np.stack(of_class, axis=1)


def _mean_gap(confidence: Floats, hit: npt.NDArray[np.bool_], weights: Floats, bins: int) -> Floats:
    inside = bin_of(confidence, bins)[:, np.newaxis] == np.arange(bins)
    gaps = np.abs(weights @ ((confidence - hit)[:, np.newaxis] * inside)).sum(axis=1)
    return divide(gaps, weights.sum(axis=1))


def brier_scores(truth: Integers, probabilities: Floats, weights: Floats) -> Floats:
    """Returns (r,) the mean squared distance of probabilities from the one-hot truth, 0 to 2 (Brier 1950)."""
    distances = ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)
    return divide(weights @ distances, weights.sum(axis=1))


def reliability(truth: Integers, probabilities: Floats, bins: int) -> tuple[Floats, Floats, Integers]:
    """Returns mean confidence, accuracy and count a bin, each (bins,); an empty bin has NaN, NaN and 0."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    inside = bin_of(confidence, bins)[:, np.newaxis] == np.arange(bins)
    count = inside.sum(axis=0)
    mean_confidence = divide((confidence[:, np.newaxis] * inside).sum(axis=0), count.astype(np.float64))
    accuracy = divide(
        (right[:, np.newaxis] & inside).sum(axis=0).astype(np.float64), count.astype(np.float64)
    )
    return mean_confidence, accuracy, count.astype(np.int64)


def roc_curve(member: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Returns false and true positive rates from (0, 0) to (1, 1), one point a distinct score.

    Both are empty where there are no members or no others.
    """
    if member.all() or not member.any():
        return np.empty(0), np.empty(0)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    true, false = member[order].cumsum()[ends], (~member[order]).cumsum()[ends]
    return np.r_[0.0, false / false[-1]], np.r_[0.0, true / true[-1]]
