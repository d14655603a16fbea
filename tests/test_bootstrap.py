import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumorflow import bootstrap
from tumorflow.params import EvaluateParams

PARAMS = EvaluateParams(classes=("a", "b"), bootstrap_resamples=300)


def cohort(groups_per_class: int, slices: int = 3, seed: int = 0):
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(2 * groups_per_class), slices)
    truth = (groups >= groups_per_class).astype(np.int64)
    drift = np.repeat(generator.normal(0, 0.25, 2 * groups_per_class), slices)
    second = np.clip(0.35 + 0.3 * truth + drift + generator.normal(0, 0.05, len(groups)), 0.01, 0.99)
    return truth, np.column_stack([1 - second, second]), groups


def test_identical_groups_give_intervals_without_width():
    groups = np.repeat(np.arange(8), 2)
    truth = np.repeat(np.arange(2), 8)
    answers = np.tile([[0.7, 0.3], [0.4, 0.6]], (8, 1))
    for item in bootstrap.estimate(truth, answers, groups, PARAMS).values():
        assert item.low == pytest.approx(item.value)
        assert item.high == pytest.approx(item.value)


def test_the_interval_holds_the_value_and_is_narrower_with_more_groups():
    few = bootstrap.estimate(*cohort(8), PARAMS)["macro_auc"]
    many = bootstrap.estimate(*cohort(200), PARAMS)["macro_auc"]
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low


def test_slices_of_a_group_do_not_count_as_independent():
    truth, answers, groups = cohort(15, slices=8)
    whole = bootstrap.estimate(truth, answers, groups, PARAMS)["accuracy"]
    naive = bootstrap.estimate(truth, answers, np.arange(len(truth)), PARAMS)["accuracy"]
    assert whole.high - whole.low > 1.5 * (naive.high - naive.low)


def test_a_resample_repeats_groups_whole():
    truth, answers, groups = np.array([0, 0, 1]), np.eye(2)[[0, 1, 1]], np.array([0, 0, 1])
    # one group a class: every resample is the cohort itself
    accuracy = bootstrap.estimate(truth, answers, groups, PARAMS)["accuracy"]
    assert (accuracy.low, accuracy.value, accuracy.high) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_a_paired_difference_by_hand():
    # two groups a class, one slice each; the second model is wrong on the first group alone. A resample holds
    # that group 0, 1 or 2 times (probability 1/4, 1/2, 1/4), among four slices.
    truth, groups = np.array([0, 0, 1, 1]), np.arange(4)
    right, wrong_once = np.eye(2)[truth], np.eye(2)[[1, 0, 1, 1]]
    params = PARAMS.model_copy(update={"confidence_level": 0.9, "bootstrap_resamples": 4000})
    found = bootstrap.estimate_difference(truth, (right, wrong_once), groups, params)
    first, second, difference = found["accuracy"]
    assert (first.value, second.value) == (1, 0.75)
    assert (difference.value, difference.low, difference.high) == (0.25, 0, 0.5)
    difference = found["macro_f1"][2]
    # wrong once: F1 2/3 and 4/5; wrong twice: 0 and 2/3
    assert difference.value == pytest.approx(1 - (2 / 3 + 4 / 5) / 2)
    assert (difference.low, difference.high) == pytest.approx((0, 1 - (0 + 2 / 3) / 2))
    drawn = bootstrap.resample(truth, wrong_once, groups, params)["accuracy"][1:]
    assert [np.isclose(drawn, value).mean() for value in (1, 0.75, 0.5)] == pytest.approx(
        [0.25, 0.5, 0.25], abs=0.03
    )


def test_what_is_hard_for_both_models_does_not_widen_their_difference():
    truth, answers, groups = cohort(30)
    shifted = np.clip(answers + np.array([0.02, -0.02]), 0.001, 0.999)
    first, second, difference = bootstrap.estimate_difference(truth, (answers, shifted), groups, PARAMS)[
        "accuracy"
    ]
    assert difference.high - difference.low < 0.7 * (first.high - first.low)
    assert first == bootstrap.estimate(truth, answers, groups, PARAMS)["accuracy"]
    assert second == bootstrap.estimate(truth, shifted, groups, PARAMS)["accuracy"]


def test_a_model_does_not_differ_from_itself():
    truth, answers, groups = cohort(8)
    found = bootstrap.estimate_difference(truth, (answers, answers), groups, PARAMS)
    assert {item[2] for item in found.values()} == {bootstrap.Estimate(0.0, 0.0, 0.0)}


def test_the_same_seed_gives_the_same_interval():
    first, again = (bootstrap.estimate(*cohort(8), PARAMS) for _ in range(2))
    other = bootstrap.estimate(*cohort(8), PARAMS.model_copy(update={"seed": 8}))
    assert first == again
    assert first["accuracy"] != other["accuracy"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 1000))
def test_every_resample_keeps_the_groups_a_stratum(strata, seed):
    strata = np.array(strata)
    drawn = bootstrap.draw_groups(strata, 20, seed)
    for stratum in np.unique(strata):
        np.testing.assert_array_equal(drawn[:, strata == stratum].sum(axis=1), (strata == stratum).sum())


def test_strata_are_the_sets_of_labels_a_group_holds():
    strata = bootstrap.strata_of(np.array([0, 0, 1, 1, 0, 1]), np.array([0, 1, 2, 3, 3, 4]), 2)
    assert strata[0] == strata[1]
    assert strata[2] == strata[4]
    assert len({strata[0], strata[2], strata[3]}) == 3


def test_no_class_vanishes_even_with_mixed_groups():
    truth, groups = np.array([0, 1, 0, 0]), np.array([0, 0, 1, 2])
    estimates = bootstrap.estimate(truth, np.tile([0.6, 0.4], (4, 1)), groups, PARAMS)
    assert not np.isnan([estimates["macro_f1"].low, estimates["macro_auc"].high]).any()


def test_mostly_undefined_gives_no_interval():
    assert np.isnan(bootstrap.percentile_interval(np.r_[np.full(10, np.nan), np.ones(90)], 0.95)).all()
    assert bootstrap.percentile_interval(np.r_[np.full(5, np.nan), np.ones(95)], 0.95) == (1.0, 1.0)


def test_percentiles_by_hand():
    assert bootstrap.percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))


def test_undefined_is_null_in_json():
    nan = float("nan")
    assert bootstrap.to_json({"x": bootstrap.Estimate(nan, nan, 0.5)}) == {
        "x": {"value": None, "low": None, "high": 0.5}
    }


def test_a_large_test_set_is_measured_in_parts_and_in_seconds():
    cohort_of_many = cohort(600, slices=5)  # 6,000 slices × 1,000 resamples do not fit in one part
    started = time.process_time()
    bootstrap.estimate(*cohort_of_many, PARAMS.model_copy(update={"bootstrap_resamples": 1000}))
    assert time.process_time() - started < 20
