import numpy as np
import pandas as pd
import pytest

from tumorflow.evaluation import populations
from tumorflow.evaluation.prediction import TestSplit
from tumorflow.params import EvaluateParams

PARAMS = EvaluateParams(classes=("a", "b"), bootstrap_resamples=200, min_population_groups=5)


def make_test(levels, **columns):
    size = len(levels)
    table = pd.DataFrame(
        {
            "manufacturer": levels,
            "convolution_kernel": [""] * size,
            "slice_thickness_mm": [np.nan] * size,
            "sex": [None] * size,
            "age_years": [np.nan] * size,
            **columns,
        }
    )
    return TestSplit(table, np.arange(size) % 2, np.arange(size))


def test_tells_the_part_that_fares_badly():
    test = make_test(["GE"] * 20 + ["SIEMENS"] * 20 + [" "] * 4)
    right = np.eye(2)[test.truth]
    right[20:40] = 1 - right[20:40]
    found = populations.compare_populations(test, right, PARAMS)
    assert [(item.attribute, item.level, item.groups, item.verdict) for item in found] == [
        ("manufacturer", "GE", 20, "higher"),
        ("manufacturer", "SIEMENS", 20, "lower"),
        ("manufacturer", "unknown", 4, "too few"),
    ]
    assert found[1].accuracy.value == 0
    assert found[2].accuracy is None


def test_counts_groups_not_slices():
    test = make_test(["GE"] * 12)
    grouped = TestSplit(test.table, np.zeros(12, np.int64), np.arange(12) // 3)
    (found,) = populations.compare_populations(grouped, np.tile([0.9, 0.1], (12, 1)), PARAMS)
    assert (found.groups, found.slices, found.verdict) == (4, 12, "too few")


def test_a_population_without_a_class_has_accuracy_but_no_macro_f1():
    test = make_test(["GE"] * 10)
    one_class = TestSplit(test.table, np.zeros(10, np.int64), test.groups)
    (found,) = populations.compare_populations(one_class, np.tile([0.9, 0.1], (10, 1)), PARAMS)
    assert found.accuracy.value == 1
    assert np.isnan(found.macro_f1.value)


@pytest.mark.parametrize(
    ("value", "name"),
    [(49.9, "under 50"), (50, "50–59"), (69, "60–69"), (90, "70 and over"), (np.nan, "unknown")],
)
def test_age_bands(value, name):
    assert populations.name_band(value, populations.AGE_BANDS) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [(1.25, "under 1.5 mm"), (1.5, "1.5–2.9 mm"), (5.0, "5 mm and over"), (None, "unknown")],
)
def test_thickness_bands(value, name):
    assert populations.name_band(value, populations.THICKNESS_BANDS) == name


def test_levels_come_in_the_order_of_their_bounds():
    test = make_test([""] * 4, age_years=[75.0, np.nan, 30.0, 55.0])
    assert [level for _, level, _ in populations.levels_of(test.table)] == [
        "under 50",
        "50–59",
        "70 and over",
        "unknown",
    ]
