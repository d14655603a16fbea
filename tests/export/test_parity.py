import numpy as np
import pytest

from tumorflow.export import parity, step
from tumorflow.params import ExportParams

KERAS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.35, 0.25], [0.0, 0.0, 1.0]])
PARAMS = ExportParams(classes=("a", "b", "c"), bootstrap_resamples=200, calibration_bins=10)


def refer(probabilities=KERAS, truth=(0, 1, 0, 2), groups=(0, 1, 2, 3)):
    return parity.Reference(probabilities, np.array(truth, np.int64), np.array(groups, np.int64))


def test_parity_by_hand():
    tflite = KERAS.copy()
    tflite[2] = [0.3, 0.45, 0.25]  # flips one of four
    found = parity.compare(refer(), tflite, PARAMS)
    assert found.slices == 4
    assert found.flipped == 1
    assert found.label_agreement == 0.75
    assert found.max_probability_difference == pytest.approx(0.1)
    assert found.mean_probability_difference == pytest.approx(0.2 / 12)
    # of 0.4 → 0.3: ln(0.4 / 0.6) − ln(0.3 / 0.7); 0.35 → 0.45 moves less
    assert found.max_logit_difference == pytest.approx(0.441833, abs=1e-6)


def test_what_the_difference_costs_by_hand():
    tflite = KERAS.copy()
    tflite[2] = [0.05, 0.7, 0.25]  # of class a, now with less of a than slice 1 of class b has
    found = parity.compare(refer(), tflite, PARAMS)
    # class a: of the pairs (0,1) (0,3) (2,1) (2,3) one is lost; class b: (1,0) (1,2) (1,3), one lost; c: none
    assert found.classes["a"].auc_change.value == pytest.approx(-1 / 4)
    assert found.classes["b"].auc_change.value == pytest.approx(-1 / 3)
    assert found.classes["c"].auc_change.value == 0
    assert found.changes["macro_auc"].value == pytest.approx(-(1 / 4 + 1 / 3) / 3)
    assert (
        found.changes["macro_auc"].low < found.changes["macro_auc"].value <= found.changes["macro_auc"].high
    )
    # ECE: gaps of 0.3, 0.4, 0.6 and 0, in bins of their own; then −0.3 and 0.7 meet in the bin of 0.7
    assert found.changes["calibration_error"].value == pytest.approx((0.4 + 0.4) / 4 - (0.3 + 0.4 + 0.6) / 4)
    # class a's probabilities: .7 and .4 of members, .1 and 0 of others in one bin; then .05 joins those
    of_a = found.classes["a"]
    assert of_a.calibration_change.value == pytest.approx((0.3 + 0.85) / 4 - (0.3 + 0.6 + 0.1) / 4)
    assert of_a.calibration_change.low <= of_a.calibration_change.value <= of_a.calibration_change.high
    assert (of_a.slices, of_a.flipped, of_a.label_agreement) == (2, 1, 0.5)
    assert of_a.max_probability_difference == pytest.approx(0.35)
    assert found.classes["b"].label_agreement == 1


def test_each_rule_refuses_what_only_it_sees():
    """20 slices of each of two classes; the changes are small but for what the rule is about."""
    truth = np.repeat([0, 1], 20)
    keras = np.where(truth[:, np.newaxis] == [0, 1], 0.9, 0.1)
    params = ExportParams(classes=("a", "b"), bootstrap_resamples=200)
    reference = refer(keras, truth, np.arange(40))

    def failed(tflite, **limits):
        changed = params.model_copy(update=limits)
        rules = parity.judge("int8", parity.compare(reference, tflite, changed), changed)
        assert len(rules) == 6
        return [rule["name"].removeprefix("tflite_int8_") for rule in rules if not rule["passed"]]

    assert failed(keras) == []
    flipped = keras.copy()
    flipped[:3] = 0.45, 0.55
    loose = {"min_label_agreement": 0.9, "max_probability_difference": 1.0, "max_logit_difference": 9.0}
    lenient = {**loose, "max_calibration_loss": 1.0}
    assert failed(flipped, **lenient) == ["class_agreement"]
    assert failed(flipped, **{**lenient, "min_class_label_agreement": 0.8}) == []
    swapped = keras.copy()
    swapped[:3], swapped[20:23] = (0.501, 0.499), (0.51, 0.49)
    assert failed(swapped, **{**lenient, "min_class_label_agreement": 0.0}) == ["auc_change"]
    sure = np.where(truth[:, np.newaxis] == [0, 1], 0.51, 0.49)
    assert failed(sure, **loose) == ["calibration_change"]
    assert failed(sure, **{**lenient, "max_logit_difference": 2.0}) == ["logit_difference"]


def test_a_class_without_slices_has_no_auc_to_judge():
    found = parity.compare(refer(KERAS[:3], (0, 1, 0), (0, 1, 2)), KERAS[:3], PARAMS)
    assert found.classes["c"].label_agreement is None
    assert np.isnan(found.changes["macro_auc"].value)
    names = [rule["name"] for rule in parity.judge("float32", found, PARAMS)]
    assert "tflite_float32_auc_change" not in names
    assert "tflite_float32_calibration_change" in names
    told = parity.as_json({"float32": found}, {"float32": {"size_bytes": 3}})["float32"]
    assert told["changes"]["macro_auc"] == {"value": None, "low": None, "high": None}
    assert told["size_bytes"] == 3


def test_an_answer_that_is_no_number_agrees_with_nothing_and_fails_every_rule():
    tflite = np.full_like(KERAS, np.nan)
    found = parity.compare(refer(), tflite, PARAMS)
    assert found.label_agreement == 0
    rules = parity.judge("float32", found, PARAMS)
    assert [rule["passed"] for rule in rules] == [False] * 4
    assert rules[1]["observed"] is None


@pytest.mark.parametrize("other", [KERAS[:2], np.empty((0, 3))])
def test_only_the_same_slices_can_be_compared(other):
    with pytest.raises(ValueError, match="same slices"):
        parity.compare(refer(KERAS if len(other) else other), other, PARAMS)


@pytest.mark.parametrize(
    ("gate", "parity_passed", "expected"),
    [
        ("accepted", True, "accepted"),
        ("accepted", False, "rejected"),
        ("rejected", True, "rejected"),
        ("rejected", False, "rejected"),
    ],
)
def test_parity_can_only_take_an_acceptance_back(gate, parity_passed, expected):
    decision = {"decision": gate, "rules": [{"name": "floor", "passed": gate == "accepted"}]}
    final = step.decide(decision, [{"name": "tflite", "passed": parity_passed}])
    assert final["decision"] == expected
    assert [rule["name"] for rule in final["rules"]] == ["floor", "tflite"]
