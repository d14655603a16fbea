"""Confidence intervals by resampling whole groups: slices of one patient are not independent of each other.

Resampling is stratified by the set of labels that a group holds. The split is stratified by class too, so
the number of groups a class is fixed by design rather than by chance, and with few groups a class would
otherwise vanish from many resamples and leave macro averages undefined. What stays undefined in a resample
(the precision of a class that is never predicted) is left out; where that is more than one resample in
twenty, no interval is given at all. Intervals are percentile intervals (Efron 1979).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tumorflow.metrics import Floats, Integers, measure
from tumorflow.params import MeasuredSection

MAX_UNDEFINED_FRACTION = 0.05
VALUES_AT_ONCE = 4_000_000
"""Resamples times slices held in memory at once: 32 MB an array."""


@dataclass(frozen=True)
class Estimate:
    """A metric's value and its confidence interval; NaN where undefined."""

    value: float
    low: float
    high: float


def estimate(
    truth: Integers, probabilities: Floats, groups: Integers, params: MeasuredSection
) -> dict[str, Estimate]:
    """Returns every metric of `metrics.measure` by name with its interval.

    `groups` is (n,) int64: the group of each slice, 0 to g − 1.
    """
    return {
        name: summarise(values, params.confidence_level)
        for name, values in resample(truth, probabilities, groups, params).items()
    }


def estimate_difference(
    truth: Integers, answers: tuple[Floats, Floats], groups: Integers, params: MeasuredSection
) -> dict[str, tuple[Estimate, Estimate, Estimate]]:
    """Returns every metric by name: of the first model, of the second, and the first minus the second.

    The difference is taken within each resample, in which both models meet the same groups: what makes a
    resample easy or hard for both leaves the interval alone (the paired bootstrap).
    """
    first, second = (resample(truth, each, groups, params) for each in answers)
    level = params.confidence_level
    return {
        name: (
            summarise(first[name], level),
            summarise(second[name], level),
            summarise(first[name] - second[name], level),
        )
        for name in first
    }


def resample(
    truth: Integers, probabilities: Floats, groups: Integers, params: MeasuredSection
) -> dict[str, Floats]:
    """Returns every metric by name, (1 + resamples,): its value, then its value in each resample.

    Which groups a resample holds depends on labels, groups and seed alone, not on the probabilities.
    """

    def measured(weights: Floats) -> dict[str, Floats]:
        return measure(truth, probabilities, weights, params.classes, params.calibration_bins)

    strata = strata_of(truth, groups, len(params.classes))
    multiplicities = draw_groups(strata, params.bootstrap_resamples, params.seed)
    at_once = max(1, VALUES_AT_ONCE // max(1, len(truth)))
    parts = [measured(np.ones((1, len(truth))))] + [
        measured(multiplicities[start : start + at_once][:, groups])
        for start in range(0, params.bootstrap_resamples, at_once)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def strata_of(truth: Integers, groups: Integers, classes: int) -> Integers:
    """Returns (g,) int64: groups that hold the same set of labels have the same number."""
    holds = np.zeros((groups.max(initial=-1) + 1, classes), dtype=bool)
    holds[groups, truth] = True
    return np.unique(holds, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def draw_groups(strata: Integers, resamples: int, seed: int) -> Floats:
    """Returns (resamples, g) float64: how often each group is drawn; strata keep their number of groups."""
    generator = np.random.default_rng(seed)
    multiplicities = np.zeros((resamples, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        shares = np.full(len(members), 1 / len(members))
        multiplicities[:, members] = generator.multinomial(len(members), shares, size=resamples)
    return multiplicities


def summarise(values: Floats, confidence_level: float) -> Estimate:
    """Returns the first of the values with the interval of the others, which are of the resamples."""
    return Estimate(float(values[0]), *percentile_interval(values[1:], confidence_level))


def percentile_interval(resampled: Floats, confidence_level: float) -> tuple[float, float]:
    """Returns the interval's ends; both NaN where too many of the resamples are undefined."""
    defined = resampled[~np.isnan(resampled)]
    if len(defined) < (1 - MAX_UNDEFINED_FRACTION) * len(resampled) or len(defined) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return float(low), float(high)


def to_json(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """Returns name → value, low and high, with null for what is undefined."""
    return {
        name: {"value": or_none(item.value), "low": or_none(item.low), "high": or_none(item.high)}
        for name, item in estimates.items()
    }


def or_none(value: float) -> float | None:
    """Returns the value, or None in place of NaN."""
    return None if np.isnan(value) else value
