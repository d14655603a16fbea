"""What Kubeflow's page shows of an evaluation: numbers, curves, the report."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tumorflow.files import read_json, write_json, write_text

CURVE_POINTS = 200
"""More would not be seen, and Kubeflow keeps them in its metadata."""


class Metrics(Protocol):
    """Kubeflow's artifact of numbers."""

    path: str

    def log_metric(self, metric: str, value: float) -> None:
        """Takes one number."""


class ClassificationMetrics(Protocol):
    """Kubeflow's artifact of a ROC curve or a confusion matrix."""

    path: str

    def log_roc_curve(self, fpr: list[float], tpr: list[float], threshold: list[float]) -> None:
        """Takes a curve."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None:
        """Takes rows of the true, columns of the predicted class."""


class Page(Protocol):
    """Kubeflow's artifact of an HTML page."""

    path: str


def show(
    evaluation: str,
    classes: Sequence[str],
    *,
    metrics: Metrics,
    roc: ClassificationMetrics,
    confusion: ClassificationMetrics,
    report: Page,
) -> None:
    """Fills Kubeflow's own artifacts from an evaluation.

    Kubeflow draws one curve an artifact: that of the last class, in label order the gravest.

    Args:
        evaluation: its folder.
        classes: in label order.
        metrics: takes the headline numbers.
        roc: takes the ROC curve of the last class against the rest.
        confusion: takes the confusion matrix.
        report: takes the report.
    """
    import pandas

    folder = Path(evaluation)
    headline = read_json(folder / "headline.json")
    for name, value in headline.items():
        if isinstance(value, float | int):
            metrics.log_metric(name, float(value))
    rows = pandas.read_parquet(folder / "predictions.parquet")
    truth = rows["label"].tolist()
    scores = rows[f"probability_{classes[-1]}"].tolist()
    roc.log_roc_curve(**trace_curve(truth, scores, classes[-1]))
    matrix = count_confusion(truth, rows["predicted"].tolist(), classes)
    confusion.log_confusion_matrix(list(classes), matrix)
    write_text(Path(report.path), (folder / "report.html").read_text())
    for artifact in (metrics, roc, confusion):  # an artifact without a file is never found in kfp's cache
        write_json(Path(artifact.path), headline)


def trace_curve(truth: Sequence[str], scores: Sequence[float], label: str) -> dict[str, list[float]]:
    """Returns a ROC curve as Kubeflow takes it: false and true positive rates, and thresholds from 1 down.

    Args:
        truth: class of each slice.
        scores: probability that each is of the class `label`.
        label: the class against the rest.
    """
    import numpy as np

    from tumorflow.metrics import roc_curve

    probabilities = np.asarray(scores, np.float64)
    false, true = roc_curve(np.array([name == label for name in truth]), probabilities)
    thresholds = np.r_[1.0, np.unique(probabilities)[::-1]]
    kept = np.unique(np.linspace(0, max(len(false) - 1, 0), min(len(false), CURVE_POINTS)).astype(int))
    named = {"fpr": false, "tpr": true, "threshold": thresholds}
    return {name: values[kept].tolist() if len(false) else [] for name, values in named.items()}


def count_confusion(
    truth: Sequence[str], predicted: Sequence[str], classes: Sequence[str]
) -> list[list[int]]:
    """Returns how many slices of a true class (row) were taken for which class (column)."""
    counts = Counter(zip(truth, predicted, strict=True))
    return [[counts[row, column] for column in classes] for row in classes]
