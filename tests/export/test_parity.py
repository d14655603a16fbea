import numpy as np
import pytest

from tumorflow.export import parity, step
from tumorflow.params import ExportParams

KERAS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.35, 0.25], [0.0, 0.0, 1.0]])


def test_parity_by_hand():
    tflite = KERAS.copy()
    tflite[2] = [0.3, 0.45, 0.25]  # flips one of four
    found = parity.compare(KERAS, tflite)
    assert found.slices == 4
    assert found.flipped == 1
    assert found.label_agreement == 0.75
    assert found.max_probability_difference == pytest.approx(0.1)
    assert found.mean_probability_difference == pytest.approx(0.2 / 12)
    # of 0.4 → 0.3: ln(0.4 / 0.6) − ln(0.3 / 0.7); 0.35 → 0.45 moves less
    assert found.max_logit_difference == pytest.approx(0.441833, abs=1e-6)


def test_an_answer_that_is_no_number_agrees_with_nothing_and_fails_every_rule():
    tflite = np.full_like(KERAS, np.nan)
    found = parity.compare(KERAS, tflite)
    assert found.label_agreement == 0
    rules = parity.judge("float32", found, ExportParams())
    assert [rule["passed"] for rule in rules] == [False, False]
    assert rules[1]["observed"] is None


@pytest.mark.parametrize("other", [KERAS[:2], np.empty((0, 3))])
def test_only_the_same_slices_can_be_compared(other):
    with pytest.raises(ValueError, match="same slices"):
        parity.compare(KERAS if len(other) else other, other)


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
