"""The model against the champion, on the same test groups.

Only groups that the champion never saw in training or tuning can judge: on the others it has an advantage
that says nothing about new patients. With all test groups the comparison is for information.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.bootstrap import Estimate, estimate_difference, to_json
from tumorflow.metrics import Floats, Integers
from tumorflow.params import EvaluateParams

JUDGED = ("macro_f1", "macro_auc")
COMPARED = (*JUDGED, "balanced_accuracy", "accuracy", "calibration_error")


@dataclass(frozen=True)
class Paired:
    """A metric of both models, and the model's minus the champion's."""

    model: Estimate
    champion: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Sample:
    """Both models on some of the test groups."""

    groups: int
    slices: int
    groups_per_class: Mapping[str, int]
    metrics: Mapping[str, Paired]


@dataclass(frozen=True)
class Comparison:
    """What is known of the model against the champion."""

    champion: str
    """NAME/VERSION."""
    not_judged: str
    """Why the rule on the champion cannot be judged; empty: it can."""
    unseen: Sample | None = None
    """On the groups that the champion never saw in training or tuning; None where it cannot be measured."""
    everyone: Sample | None = None
    """On all test groups."""

    @property
    def judged(self) -> Sample | None:
        """What the rule on the champion is judged by; None: it is not judged."""
        return None if self.not_judged else self.unseen


def compare(
    champion: str,
    truth: Integers,
    answers: tuple[Floats, Floats],
    groups: Integers,
    seen: npt.NDArray[np.bool_] | None,
    params: EvaluateParams,
) -> Comparison:
    """Returns the comparison of the model with the champion.

    Args:
        champion: NAME/VERSION.
        truth: (n,) label index.
        answers: (n, classes) probabilities of the model, and of the champion.
        groups: (n,) group of each slice, 0 to g − 1.
        seen: (n,) whether the champion was trained or tuned on the slice or its patient; None: unknown.
        params: classes, margin, bootstrap.
    """
    everyone = measure_sample(truth, answers, groups, params)
    if seen is None:
        reason = f"{champion} keeps no record of what it was trained on."
        return Comparison(champion, reason, None, everyone)
    chosen = ~np.isin(groups, groups[seen])  # one slice that it saw gives the whole group away
    renumbered = np.unique(groups[chosen], return_inverse=True)[1].reshape(-1).astype(np.int64)
    unseen = measure_sample(truth[chosen], (answers[0][chosen], answers[1][chosen]), renumbered, params)
    return Comparison(champion, too_few(unseen, params), unseen, everyone)


def measure_sample(
    truth: Integers, answers: tuple[Floats, Floats], groups: Integers, params: EvaluateParams
) -> Sample:
    """Returns both models on the slices given."""
    differences = estimate_difference(truth, answers, groups, params)
    return Sample(
        groups=len(np.unique(groups)),
        slices=len(truth),
        groups_per_class={
            name: len(np.unique(groups[truth == label])) for label, name in enumerate(params.classes)
        },
        metrics={name: Paired(*differences[name]) for name in COMPARED},
    )


def too_few(unseen: Sample, params: EvaluateParams) -> str:
    """Returns why the groups are too few to judge by; empty: they are enough."""
    required = params.min_test_groups_per_class
    if all(count >= required for count in unseen.groups_per_class.values()):
        return ""
    counts = ", ".join(f"{count} of {name}" for name, count in unseen.groups_per_class.items())
    return f"{unseen.groups} groups unseen by the champion ({counts}); at least {required} a class are asked."


def describe(comparison: Comparison, params: EvaluateParams) -> dict[str, Any]:
    """Returns what metrics.json says about the champion."""
    return {
        "champion": comparison.champion,
        "margin": params.champion_margin,
        "not_judged": comparison.not_judged,
        "unseen": describe_sample(comparison.unseen),
        "all": describe_sample(comparison.everyone),
    }


def describe_sample(sample: Sample | None) -> dict[str, Any] | None:
    """Returns a sample as JSON; None where it was not measured."""
    if sample is None:
        return None
    return {
        "groups": sample.groups,
        "slices": sample.slices,
        "groups_per_class": dict(sample.groups_per_class),
        "metrics": {name: to_json(vars(paired)) for name, paired in sample.metrics.items()},
    }


def name_differences(comparison: Comparison | None) -> dict[str, Estimate]:
    """Returns the differences that were judged, by the name that a tracker gets; empty where none was."""
    judged = comparison.judged if comparison else None
    return {f"{name}_minus_champion": judged.metrics[name].difference for name in JUDGED} if judged else {}
