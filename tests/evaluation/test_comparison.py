import json

import numpy as np
import pytest

from tumorflow.evaluation import comparison
from tumorflow.params import EvaluateParams

PARAMS = EvaluateParams(classes=("a", "b"), bootstrap_resamples=100, min_test_groups_per_class=2)
GROUPS = np.repeat(np.arange(8), 2)
TRUTH = np.repeat([0, 1], 8)
RIGHT = np.eye(2)[TRUTH]


def compare(theirs=RIGHT, seen=None):
    return comparison.compare("tiny/1", TRUTH, (RIGHT, theirs), GROUPS, seen, PARAMS)


def slices_of(*groups):
    return np.isin(GROUPS, groups)


def test_one_slice_that_the_champion_saw_takes_its_whole_group_out():
    seen = np.zeros(16, dtype=bool)
    seen[[1, 8]] = True  # one slice of group 0, one of group 4
    found = compare(seen=seen)
    assert found.not_judged == ""
    assert (found.judged.groups, found.judged.slices) == (6, 12)
    assert found.judged.groups_per_class == {"a": 3, "b": 3}
    assert (found.everyone.groups, found.everyone.slices) == (8, 16)


def test_only_unseen_groups_judge():
    theirs = RIGHT.copy()
    theirs[slices_of(0, 4)] = [[0.5, 0.5]]
    found = compare(theirs, seen=slices_of(0, 4))
    assert found.judged.metrics["macro_auc"].difference.value == 0
    assert found.everyone.metrics["macro_auc"].difference.value > 0


def test_too_few_unseen_groups_of_one_class_do_not_judge():
    found = compare(seen=slices_of(0, 1, 2))
    assert (
        found.not_judged == "5 groups unseen by the champion (1 of a, 4 of b); at least 2 a class are asked."
    )
    assert found.judged is None
    assert found.unseen.groups == 5
    assert comparison.name_differences(found) == {}


@pytest.mark.parametrize("classes", [(0, 1, 2, 3), (0, 1, 2, 3, 4, 5, 6, 7)])
def test_a_champion_that_saw_a_whole_class_can_still_be_described(classes):
    found = compare(seen=slices_of(*classes))
    assert found.judged is None
    described = comparison.describe(found, PARAMS)
    assert described["unseen"]["metrics"]["macro_f1"]["model"] == {"value": None, "low": None, "high": None}
    json.dumps(described, allow_nan=False)


def test_a_champion_without_records_is_compared_for_information():
    found = compare()
    assert found.not_judged == "tiny/1 keeps no record of what it was trained on."
    assert (found.unseen, found.judged) == (None, None)
    assert found.everyone.groups == 8


def test_describes_margin_groups_and_figures():
    described = comparison.describe(compare(seen=np.zeros(16, dtype=bool)), PARAMS)
    assert {key: described[key] for key in ("champion", "margin", "not_judged")} == {
        "champion": "tiny/1",
        "margin": 0.1,
        "not_judged": "",
    }
    assert described["unseen"] == described["all"]
    assert described["all"]["groups_per_class"] == {"a": 4, "b": 4}
    assert set(described["all"]["metrics"]) == set(comparison.COMPARED)
    assert described["all"]["metrics"]["macro_f1"] == {
        "model": {"value": 1.0, "low": 1.0, "high": 1.0},
        "champion": {"value": 1.0, "low": 1.0, "high": 1.0},
        "difference": {"value": 0.0, "low": 0.0, "high": 0.0},
    }


def test_a_tracker_gets_the_judged_differences():
    named = comparison.name_differences(compare(seen=np.zeros(16, dtype=bool)))
    assert set(named) == {"macro_f1_minus_champion", "macro_auc_minus_champion"}
    assert comparison.name_differences(None) == {}
