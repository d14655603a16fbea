import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumorflow import metrics

CLASSES = ("a", "b", "c")
TRUTH = np.array([0, 0, 1, 2])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.5, 0.1, 0.4]])
ONCE = np.ones((1, 4))


def measure(truth, probabilities, weights=None, bins=5):
    weights = np.ones((1, len(truth))) if weights is None else weights
    return metrics.measure(truth, probabilities, weights, CLASSES, bins)


def test_confusion_by_hand():
    confusion = metrics.confusion_matrices(TRUTH, PROBABILITIES.argmax(axis=1), ONCE, 3)
    np.testing.assert_array_equal(confusion[0], [[1, 1, 0], [0, 1, 0], [1, 0, 0]])


def test_precision_recall_and_f1_by_hand():
    found = {name: float(value[0]) for name, value in measure(TRUTH, PROBABILITIES).items()}
    assert found["accuracy"] == 0.5
    assert (found["precision_a"], found["recall_a"], found["f1_a"]) == (0.5, 0.5, 0.5)
    assert (found["precision_b"], found["recall_b"]) == (0.5, 1.0)
    assert found["f1_b"] == pytest.approx(2 / 3)
    assert np.isnan(found["precision_c"])  # never predicted
    assert (found["recall_c"], found["f1_c"]) == (0.0, 0.0)
    assert found["balanced_accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)


def test_auc_by_hand():
    # a: members .8 and .3 against .2 and .5: 3 of 4 pairs; b: .7 beats .1, .6, .1; c: .4 beats three times .1
    np.testing.assert_allclose(metrics.roc_aucs(TRUTH, PROBABILITIES, ONCE), [[0.75, 1.0, 1.0]])


def test_auc_counts_ties_half():
    tied = np.full((4, 2), 0.5)
    np.testing.assert_array_equal(metrics.roc_aucs(np.array([0, 1, 0, 1]), tied, ONCE), [[0.5, 0.5]])


def test_calibration_error_by_hand():
    # confidences .8 right, .6 wrong, .7 right, .5 wrong; bins (.4, .6], (.6, .8]
    # first: |(.6 + .5) − 0| = 1.1; second: |(.8 + .7) − 2| = .5; together 1.6 of 4 slices
    assert metrics.calibration_errors(TRUTH, PROBABILITIES, ONCE, 5) == pytest.approx([0.4])


def test_calibration_error_of_each_class_by_hand():
    # a: .8 and .3 of members, .2 and .5 of others, a bin each; b: twice .1 in a bin, .6, .7 of a member;
    # c: .1 three times in one bin, .4 of a member
    by_hand = [(0.2 + 0.7 + 0.2 + 0.5) / 4, (0.2 + 0.6 + 0.3) / 4, (0.3 + 0.6) / 4]
    np.testing.assert_allclose(metrics.class_calibration_errors(TRUTH, PROBABILITIES, ONCE, 5), [by_hand])
    twice = np.array([[2.0, 0, 1, 1], [0, 0, 0, 0]])
    found = metrics.class_calibration_errors(TRUTH, PROBABILITIES, twice, 5)
    np.testing.assert_allclose(found[0, 0], (2 * 0.2 + 0.2 + 0.5) / 4)
    assert np.isnan(found[1]).all()


def test_brier_by_hand():
    # (.04+.01+.01) + (.49+.36+.01) + (.04+.09+.01) + (.25+.01+.36)
    assert metrics.brier_scores(TRUTH, PROBABILITIES, ONCE) == pytest.approx(
        [(0.06 + 0.86 + 0.14 + 0.62) / 4]
    )


def test_reliability_by_hand():
    confidence, accuracy, count = metrics.reliability(TRUTH, PROBABILITIES, 5)
    np.testing.assert_array_equal(count, [0, 0, 2, 2, 0])
    np.testing.assert_allclose(confidence, [np.nan, np.nan, 0.55, 0.75, np.nan])
    np.testing.assert_allclose(accuracy, [np.nan, np.nan, 0.0, 1.0, np.nan])


def test_bins_are_closed_above():
    np.testing.assert_array_equal(metrics.bin_of(np.array([0.0, 0.2, 0.2001, 1.0]), 5), [0, 0, 1, 4])


def test_roc_curve_by_hand():
    member, scores = np.array([True, False, True, False]), np.array([0.9, 0.5, 0.5, 0.1])
    false_rate, true_rate = metrics.roc_curve(member, scores)
    np.testing.assert_array_equal(false_rate, [0, 0, 0.5, 1])
    np.testing.assert_array_equal(true_rate, [0, 0.5, 1, 1])


def test_roc_curve_of_one_class_is_empty():
    assert [len(rates) for rates in metrics.roc_curve(np.array([True, True]), np.array([0.1, 0.2]))] == [0, 0]


def test_an_absent_class_is_undefined_without_a_warning():
    found = measure(np.array([0, 0, 1, 1]), PROBABILITIES)
    undefined = {name for name, value in found.items() if np.isnan(value[0])}
    assert undefined == {
        "precision_c",
        "recall_c",
        "f1_c",
        "auc_c",
        "balanced_accuracy",
        "macro_f1",
        "macro_auc",
    }


def test_no_slices_leave_all_undefined():
    found = measure(np.empty(0, np.int64), np.empty((0, 3)))
    assert all(np.isnan(value).all() for value in found.values())


@st.composite
def answers(draw):
    size = draw(st.integers(3, 40))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    truth = np.r_[0, 1, 2, generator.integers(0, 3, size - 3)]
    raw = np.round(generator.dirichlet([1, 1, 1], size), draw(st.sampled_from([1, 6]))) + 1e-3
    return truth, raw / raw.sum(axis=1, keepdims=True), generator.integers(1, 4, (1, size)).astype(float)


@settings(deadline=None)  # the machine may be busy
@given(answers())
def test_agrees_with_scikit_learn(drawn):
    from sklearn import metrics as reference

    truth, probabilities, weights = drawn
    found = {name: value[0] for name, value in measure(truth, probabilities, weights).items()}
    predicted, weight = probabilities.argmax(axis=1), weights[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, _ = reference.precision_recall_fscore_support(
            truth, predicted, labels=[0, 1, 2], sample_weight=weight, zero_division=np.nan
        )
    np.testing.assert_allclose([found[f"precision_{name}"] for name in CLASSES], precision)
    np.testing.assert_allclose([found[f"recall_{name}"] for name in CLASSES], recall)
    np.testing.assert_allclose([found[f"f1_{name}"] for name in CLASSES], f1)
    assert found["macro_auc"] == pytest.approx(
        np.mean(
            [
                reference.roc_auc_score(truth == label, probabilities[:, label], sample_weight=weight)
                for label in range(3)
            ]
        )
    )
    assert found["accuracy"] == pytest.approx(
        reference.accuracy_score(truth, predicted, sample_weight=weight)
    )
    assert found["brier"] == pytest.approx(
        reference.brier_score_loss(
            truth, probabilities, sample_weight=weight, labels=[0, 1, 2], scale_by_half=False
        )
    )


@settings(deadline=None)  # the machine may be busy
@given(answers())
def test_a_weight_of_two_counts_a_slice_twice(drawn):
    truth, probabilities, weights = drawn
    times = weights[0].astype(int)
    weighted = measure(truth, probabilities, weights)
    repeated = measure(np.repeat(truth, times), np.repeat(probabilities, times, axis=0))
    for name, value in weighted.items():
        np.testing.assert_allclose(value, repeated[name], err_msg=name)


@settings(deadline=None)  # the machine may be busy
@given(answers())
def test_every_metric_is_in_its_range(drawn):
    for name, value in measure(*drawn).items():
        defined = value[~np.isnan(value)]
        assert ((defined >= -1e-12) & (defined <= (2 if name == "brier" else 1) + 1e-12)).all()
