"""Results in parts of the population: a good average can hide a scanner or an age band that fares badly."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow.bootstrap import Estimate, estimate
from tumorflow.metrics import Floats
from tumorflow.params import EvaluateParams

if TYPE_CHECKING:
    import pandas as pd

    from tumorflow.evaluation.prediction import TestSplit

UNKNOWN = "unknown"
TOO_FEW = "too few"
AGE_BANDS = ((50.0, "under 50"), (60.0, "50–59"), (70.0, "60–69"), (np.inf, "70 and over"))
THICKNESS_BANDS = ((1.5, "under 1.5 mm"), (3.0, "1.5–2.9 mm"), (5.0, "3.0–4.9 mm"), (np.inf, "5 mm and over"))
"""Bands by what lies below each upper bound."""


@dataclass(frozen=True)
class Population:
    """Results in one part of the test split; estimates are None where there are too few groups."""

    attribute: str
    level: str
    groups: int
    slices: int
    verdict: str
    """`too few`, or how accuracy compares with that of the whole test split: `lower`, `higher`, `similar`."""
    accuracy: Estimate | None
    macro_f1: Estimate | None


def compare_populations(
    test: "TestSplit", probabilities: Floats, params: EvaluateParams
) -> tuple[Population, ...]:
    """Returns results a level of every attribute that the data know, in order of attribute and level.

    Fewer than `min_population_groups` groups are counted but not measured. An accuracy is called lower or
    higher where its interval excludes the accuracy of all test slices.
    """
    overall = float((probabilities.argmax(axis=1) == test.truth).mean()) if len(test.truth) else float("nan")
    compared = []
    for attribute, level, inside in levels_of(test.table):
        groups = np.unique(test.groups[inside], return_inverse=True)[1].reshape(-1).astype(np.int64)
        count = int(groups.max(initial=-1)) + 1
        if count < params.min_population_groups:
            compared.append(Population(attribute, level, count, int(inside.sum()), TOO_FEW, None, None))
            continue
        metrics = estimate(test.truth[inside], probabilities[inside], groups, params)
        accuracy = metrics["accuracy"]
        verdict = "lower" if accuracy.high < overall else "higher" if accuracy.low > overall else "similar"
        compared.append(
            Population(attribute, level, count, int(inside.sum()), verdict, accuracy, metrics["macro_f1"])
        )
    return tuple(compared)


def levels_of(table: "pd.DataFrame") -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Yields attribute, level and (n,) which slices have it; an attribute that no slice has is left out."""
    named: dict[str, Callable[[Any], str]] = {
        "manufacturer": name_text,
        "convolution_kernel": name_text,
        "slice_thickness_mm": lambda value: name_band(value, THICKNESS_BANDS),
        "sex": name_text,
        "age_years": lambda value: name_band(value, AGE_BANDS),
    }
    for attribute, name in named.items():
        levels = np.array([name(value) for value in table[attribute]], dtype=object)
        for level in sorted(set(levels), key=rank_level):
            if set(levels) != {UNKNOWN}:
                yield attribute, level, levels == level


def rank_level(level: str) -> tuple[int, str]:
    """Returns a sort key: bands by their bounds, then names, then unknown."""
    bands = [name for _, name in (*AGE_BANDS, *THICKNESS_BANDS)]
    if level in bands:
        return bands.index(level), level
    return len(bands) + (level == UNKNOWN), level


def name_text(value: Any) -> str:
    """Returns the value without blanks around it, `unknown` where there is none."""
    return value.strip() or UNKNOWN if isinstance(value, str) else UNKNOWN


def name_band(value: Any, bands: Sequence[tuple[float, str]]) -> str:
    """Returns the name of the band that a number lies in, `unknown` where there is none."""
    if value is None or np.isnan(value):
        return UNKNOWN
    return next(name for upper, name in bands if value < upper)
