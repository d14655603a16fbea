"""The results as tables for other programs: CSV for people and DVC, Parquet, flat names for a tracker."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tumorflow import metrics
from tumorflow.bootstrap import Estimate
from tumorflow.evaluation.populations import Population
from tumorflow.metrics import Floats
from tumorflow.params import EvaluateParams

if TYPE_CHECKING:
    from tumorflow.evaluation.prediction import TestSplit


def plot_tables(test: "TestSplit", probabilities: Floats, params: EvaluateParams) -> dict[str, str]:
    """Returns the tables for `dvc plots` as CSV by name."""
    names = params.classes
    roc = [
        (f"{false:.6g}", f"{true:.6g}", name)
        for label, name in enumerate(names)
        for false, true in zip(*metrics.roc_curve(test.truth == label, probabilities[:, label]), strict=True)
    ]
    predicted = probabilities.argmax(axis=1)
    confusion = [(names[a], names[p]) for a, p in zip(test.truth, predicted, strict=True)]
    bins = zip(*metrics.reliability(test.truth, probabilities, params.calibration_bins), strict=True)
    reliability = [(f"{c:.6g}", f"{a:.6g}", int(n)) for c, a, n in bins if n]
    return {
        "roc": to_csv(("fpr", "tpr", "class"), roc),
        "confusion": to_csv(("actual", "predicted"), confusion),
        "reliability": to_csv(("confidence", "accuracy", "count"), reliability),
    }


def populations_csv(compared: Sequence[Population]) -> str:
    """Returns populations.csv; figures are empty where there are too few groups or they are undefined."""

    def figures(item: Estimate | None) -> tuple[float | str, ...]:
        values = (np.nan,) * 3 if item is None else (item.value, item.low, item.high)
        return tuple("" if np.isnan(value) else value for value in values)

    header = ("attribute", "level", "groups", "slices", "verdict")
    columns = [f"{name}{end}" for name in ("accuracy", "macro_f1") for end in ("", "_low", "_high")]
    rows = [
        (*(getattr(item, name) for name in header), *figures(item.accuracy), *figures(item.macro_f1))
        for item in compared
    ]
    return to_csv((*header, *columns), rows)


def to_csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns the rows under their header as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def predictions_parquet(test: "TestSplit", probabilities: Floats, classes: Sequence[str]) -> bytes:
    """Returns predictions.parquet: one row a test slice, what it is and what the model says."""
    table = test.table[["slice_id", "group", "patient", "label"]].copy()
    table["predicted"] = [classes[label] for label in probabilities.argmax(axis=1)]
    for label, name in enumerate(classes):
        table[f"probability_{name}"] = probabilities[:, label]
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def flatten(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Returns values, `_low` and `_high` by a name that a tracker takes; the undefined is left out."""
    flat: dict[str, float] = {}
    for name, item in estimates.items():
        known = re.sub(r"[^A-Za-z0-9_. -]", "_", name)
        ends = (("", item.value), ("_low", item.low), ("_high", item.high))
        flat |= {f"{known}{end}": value for end, value in ends if not np.isnan(value)}
    return flat
