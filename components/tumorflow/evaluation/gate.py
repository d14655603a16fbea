"""The gate: metrics and parameters in, one verdict a rule out. A model is accepted if every rule passed.

An undefined metric fails its rule: what was not measured was not shown. The one rule that may be left without
a verdict is the one on the champion, which data or a changed input can make impossible to judge. That is
neither a pass nor a failure: it is written down with its reason, for the reviewer who decides next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tumorflow.bootstrap import Estimate, or_none
from tumorflow.evaluation.comparison import JUDGED, Comparison, Sample
from tumorflow.params import EvaluateParams

if TYPE_CHECKING:
    import pandas as pd

NOT_WORSE = "not_worse_than_champion"


@dataclass(frozen=True)
class Rule:
    """The verdict of one rule."""

    name: str
    passed: bool
    observed: float | int | None
    required: float | int
    message: str


@dataclass(frozen=True)
class Unjudged:
    """A rule without a verdict, and why."""

    name: str
    message: str


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at."""

    metrics: Mapping[str, Estimate]
    test_groups: Mapping[str, int]
    """Class → groups in the test split that hold it."""
    groups_across_splits: int
    contents_across_splits: int
    slices_without_probabilities: int
    comparison: Comparison | None = None
    """With the champion; None: there is none."""


def judge(evidence: Evidence, params: EvaluateParams) -> tuple[Rule, ...]:
    """Returns the verdict of every rule, those on the evidence itself first."""
    metrics = evidence.metrics
    rules = [
        none("no_group_spans_splits", evidence.groups_across_splits, "groups or patients in several splits"),
        none(
            "no_content_spans_splits", evidence.contents_across_splits, "identical slices in several splits"
        ),
        none(
            "probabilities_finite", evidence.slices_without_probabilities, "test slices without a probability"
        ),
    ]
    for name in params.classes:
        observed, required = evidence.test_groups.get(name, 0), params.min_test_groups_per_class
        rules.append(
            Rule(
                f"test_groups_{name}",
                observed >= required,
                observed,
                required,
                f"{observed} test groups of class {name}; at least {required} are asked.",
            )
        )
    rules.append(floor("macro_f1", metrics["macro_f1"].value, params.min_macro_f1, "Macro-F1"))
    rules.append(floor("macro_auc", metrics["macro_auc"].value, params.min_macro_auc, "Macro ROC AUC"))
    rules += [
        floor(f"recall_{name}", metrics[f"recall_{name}"].value, params.min_class_recall, f"Recall of {name}")
        for name in params.classes
    ]
    rules.append(ceiling(metrics["calibration_error"].value, params.max_calibration_error))
    if params.require_better_than_chance:
        rules.append(better_than_chance(metrics["balanced_accuracy"].low, len(params.classes)))
    if evidence.comparison and evidence.comparison.judged:
        champion, sample = evidence.comparison.champion, evidence.comparison.judged
        rules.append(not_worse_than_champion(champion, sample, params.champion_margin))
    return tuple(rules)


def list_unjudged(evidence: Evidence) -> tuple[Unjudged, ...]:
    """Returns the rules that `judge` had to leave out."""
    if evidence.comparison is None or evidence.comparison.judged:
        return ()
    return (Unjudged(NOT_WORSE, f"Not judged: {evidence.comparison.not_judged}"),)


def none(name: str, observed: int, what: str) -> Rule:
    """Returns the verdict of a rule that nothing of a kind may exist."""
    return Rule(name, observed == 0, observed, 0, f"{observed} {what}; none may be.")


def floor(name: str, observed: float, required: float, what: str) -> Rule:
    """Returns the verdict of a rule that a metric is at least `required`."""
    passed = bool(observed >= required)
    return Rule(
        name,
        passed,
        or_none(observed),
        required,
        f"{what} is {said(observed)}; at least {required:g} is asked.",
    )


def ceiling(observed: float, required: float) -> Rule:
    """Returns the verdict of the rule that the calibration error is at most `required`."""
    message = f"Expected calibration error is {said(observed)}; at most {required:g} is asked."
    return Rule("calibration_error", bool(observed <= required), or_none(observed), required, message)


def better_than_chance(lower_bound: float, classes: int) -> Rule:
    """Returns the verdict of the rule that even the lower bound beats always saying the same class.

    Such a model has a balanced accuracy of 1 / classes, whatever the class sizes.
    """
    required = 1 / classes
    return Rule(
        "better_than_chance",
        bool(lower_bound > required),
        or_none(lower_bound),
        required,
        f"The lower confidence bound of balanced accuracy is {said(lower_bound)}; always answering with the "
        f"majority class gives {required:.3f}, and more is asked.",
    )


def not_worse_than_champion(champion: str, sample: Sample, margin: float) -> Rule:
    """Returns the verdict of the rule that the model is at most `margin` worse than the champion.

    The lower confidence bound of the difference has to clear the margin, in macro-F1 and in macro AUC
    (non-inferiority with a margin set beforehand).
    """
    differences = {name: sample.metrics[name].difference for name in JUDGED}
    lowest = float(np.min([item.low for item in differences.values()]))
    required = 0 - margin
    figures = ", ".join(
        f"{name} {said(item.value)}, at least {said(item.low)}" for name, item in differences.items()
    )
    return Rule(
        NOT_WORSE,
        bool(lowest > required),
        or_none(lowest),
        required,
        f"Difference from {champion} on the {sample.groups} test groups that it never saw: {figures}; "
        f"lower bounds above {required:g} are asked.",
    )


def said(value: float) -> str:
    """Returns a figure as text."""
    return "undefined" if isnan(value) else f"{value:.4f}"


def decide(rules: Sequence[Rule]) -> Literal["accepted", "rejected"]:
    """Returns `accepted` if there are rules and every one passed."""
    return "accepted" if rules and all(rule.passed for rule in rules) else "rejected"


def to_json(rules: Sequence[Rule], unjudged: Sequence[Unjudged] = (), champion: str = "") -> dict[str, Any]:
    """Returns the content of decision.json."""
    return {
        "decision": decide(rules),
        "champion": champion,
        "rules": [asdict(rule) for rule in rules],
        "not_judged": [asdict(rule) for rule in unjudged],
    }


def count_leaks(index: "pd.DataFrame") -> tuple[int, int]:
    """Returns how many groups (or patients) and how many contents are in more than one split."""

    def spanning(column: str) -> int:
        known = index[index[column].fillna("") != ""]
        return int((known.groupby(column)["split"].nunique() > 1).sum())

    return max(spanning("group"), spanning("patient")), spanning("content_hash")
