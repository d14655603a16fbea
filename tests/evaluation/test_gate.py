from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumorflow.bootstrap import Estimate
from tumorflow.evaluation import gate
from tumorflow.evaluation.comparison import Comparison, Paired, Sample
from tumorflow.params import EvaluateParams

CLASSES = ("normal", "benign", "malignant")
NAMES = ("macro_f1", "macro_auc", "calibration_error", "balanced_accuracy", *(f"recall_{c}" for c in CLASSES))
FLOORS = ("min_macro_f1", "min_macro_auc", "min_class_recall")
PARAMS = EvaluateParams()


def evidence(groups=10, leaks=(0, 0), unanswered=0, **values):
    found = dict.fromkeys(NAMES, 0.9) | {"calibration_error": 0.1} | values
    metrics = {name: Estimate(value, value - 0.05, value + 0.05) for name, value in found.items()}
    return gate.Evidence(metrics, dict.fromkeys(CLASSES, groups), *leaks, unanswered)


def failed(found, params=PARAMS):
    return [rule.name for rule in gate.judge(found, params) if not rule.passed]


def test_a_good_model_is_accepted():
    rules = gate.judge(evidence(), PARAMS)
    assert gate.decide(rules) == "accepted"
    assert [rule.name for rule in rules] == [
        "no_group_spans_splits",
        "no_content_spans_splits",
        "probabilities_finite",
        "test_groups_normal",
        "test_groups_benign",
        "test_groups_malignant",
        "macro_f1",
        "macro_auc",
        "recall_normal",
        "recall_benign",
        "recall_malignant",
        "calibration_error",
        "better_than_chance",
    ]


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (evidence(macro_f1=0.59), ["macro_f1"]),
        (evidence(macro_auc=0.7999), ["macro_auc"]),
        (evidence(recall_benign=0.1), ["recall_benign"]),
        (evidence(calibration_error=0.26), ["calibration_error"]),
        (evidence(balanced_accuracy=0.38), ["better_than_chance"]),
        (evidence(leaks=(1, 0)), ["no_group_spans_splits"]),
        (evidence(leaks=(0, 2)), ["no_content_spans_splits"]),
        (evidence(unanswered=1), ["probabilities_finite"]),
        (evidence(groups=2), ["test_groups_normal", "test_groups_benign", "test_groups_malignant"]),
    ],
)
def test_each_rule_fails_alone(found, names):
    assert failed(found) == names


def test_a_value_on_the_floor_passes():
    assert failed(evidence(macro_f1=0.6, macro_auc=0.8, recall_normal=0.4, calibration_error=0.25)) == []


@pytest.mark.parametrize(
    ("metric", "rule"),
    [(name, "better_than_chance" if name == "balanced_accuracy" else name) for name in NAMES],
)
def test_an_undefined_metric_fails_its_rule(metric, rule):
    lenient = EvaluateParams(
        min_macro_f1=0.0, min_macro_auc=0.0, min_class_recall=0.0, max_calibration_error=1.0
    )
    rules = gate.judge(evidence(**{metric: float("nan")}), lenient)
    assert [(item.name, item.observed) for item in rules if not item.passed] == [(rule, None)]


def test_a_class_without_test_groups_fails():
    found = gate.Evidence(evidence().metrics, {"normal": 5, "benign": 5}, 0, 0, 0)
    assert failed(found) == ["test_groups_malignant"]


def test_no_rules_accept_nothing():
    assert gate.decide(()) == "rejected"


def test_the_rule_on_chance_can_be_left_out():
    params = PARAMS.model_copy(update={"require_better_than_chance": False})
    assert failed(evidence(balanced_accuracy=0.2), params) == []


values = st.one_of(st.floats(0, 1), st.just(float("nan")))


@settings(deadline=None)
@given(
    found=st.fixed_dictionaries(dict.fromkeys(NAMES, values)),
    groups=st.integers(0, 10),
    floors=st.fixed_dictionaries({name: st.tuples(st.floats(0, 1), st.floats(0, 1)) for name in FLOORS}),
    ceilings=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    min_groups=st.tuples(st.integers(1, 10), st.integers(1, 10)),
    chance=st.tuples(st.booleans(), st.booleans()),
)
def test_asking_more_never_turns_a_rejection_into_an_acceptance(
    found, groups, floors, ceilings, min_groups, chance
):
    def decide(choose, choose_ceiling):
        params = EvaluateParams(
            **{name: choose(pair) for name, pair in floors.items()},
            max_calibration_error=choose_ceiling(ceilings),
            min_test_groups_per_class=choose(min_groups),
            require_better_than_chance=choose(chance),
        )
        return gate.decide(gate.judge(evidence(groups=groups, **found), params))

    if decide(min, max) == "rejected":
        assert decide(max, min) == "rejected"


def test_counts_what_spans_splits():
    index = pd.DataFrame(
        [
            ("train", "g1", "p1", "h1"),
            ("test", "g1", "p1", "h2"),
            ("test", "g2", "", "h1"),
            ("train", "g3", "", "h3"),
            ("validation", "g4", None, "h1"),
        ],
        columns=["split", "group", "patient", "content_hash"],
    )
    assert gate.count_leaks(index) == (1, 1)


def against(*lows, not_judged=""):
    """A comparison in which the differences' lower bounds are those of macro-F1 and macro AUC."""
    model = Estimate(0.8, 0.7, 0.9)
    paired = {
        name: Paired(model, model, Estimate(low + 0.1, low, low + 0.2))
        for name, low in zip(("macro_f1", "macro_auc"), lows, strict=True)
    }
    return Comparison("tiny/3", not_judged, Sample(12, 30, dict.fromkeys(CLASSES, 4), paired))


def judge_champion(comparison, margin=0.05):
    found = replace(evidence(), comparison=comparison)
    rules = gate.judge(found, PARAMS.model_copy(update={"champion_margin": margin}))
    return next((rule for rule in rules if rule.name == "not_worse_than_champion"), None), found, rules


@pytest.mark.parametrize(
    ("f1", "auc", "passed"),
    [
        (-0.04, 0.0, True),
        (-0.04, -0.06, False),
        (-0.06, 0.3, False),
        (-0.05, 0.0, False),  # on the margin is not above it
        (float("nan"), 0.0, False),
    ],
)
def test_both_lower_bounds_clear_the_margin(f1, auc, passed):
    rule, _, rules = judge_champion(against(f1, auc))
    assert rule.passed is passed
    assert gate.decide(rules) == ("accepted" if passed else "rejected")
    assert rule.required == -0.05
    assert rule.observed == (None if np.isnan(f1) else min(f1, auc))
    assert "tiny/3 on the 12 test groups that it never saw" in rule.message


def test_what_cannot_be_judged_is_written_down_and_neither_passes_nor_fails():
    rule, found, rules = judge_champion(against(-0.9, -0.9, not_judged="2 groups unseen by the champion."))
    assert rule is None
    assert gate.decide(rules) == "accepted"
    unjudged = gate.list_unjudged(found)
    assert gate.to_json(rules, unjudged)["not_judged"] == [
        {"name": "not_worse_than_champion", "message": "Not judged: 2 groups unseen by the champion."}
    ]
    poor = replace(found, slices_without_probabilities=1)
    assert gate.decide(gate.judge(poor, PARAMS)) == "rejected"


def test_without_a_champion_nothing_is_said_of_one():
    rule, found, rules = judge_champion(None)
    assert rule is None
    assert gate.list_unjudged(found) == ()
    assert gate.to_json(rules)["not_judged"] == []


bounds = st.floats(-1, 1)


@given(f1=bounds, auc=bounds, margins=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_wider_margin_never_turns_a_pass_into_a_failure(f1, auc, margins):
    strict, lenient = (judge_champion(against(f1, auc), margin)[0].passed for margin in sorted(margins))
    assert lenient or not strict


@given(margin=st.floats(0, 1, exclude_min=True))
def test_a_model_equal_to_the_champion_passes_with_any_margin(margin):
    assert judge_champion(against(0.0, 0.0), margin)[0].passed
