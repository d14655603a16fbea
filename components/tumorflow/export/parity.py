"""Does the exported model still give Keras' answers, and does it lose anything by the difference?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow.bootstrap import Estimate, estimate_difference, to_json
from tumorflow.metrics import Floats, Integers

if TYPE_CHECKING:
    from tumorflow.params import ExportParams

UNDEFINED = Estimate(np.nan, np.nan, np.nan)
"""Where an answer is no number."""
CHANGES = ("macro_auc", "calibration_error", "balanced_accuracy", "brier")


@dataclass(frozen=True)
class Reference:
    """Keras' answers of n slices, and what is true of them."""

    probabilities: Floats
    """(n, classes)."""
    truth: Integers
    """(n,) index of the class."""
    groups: Integers
    """(n,) which patient (or group of near-duplicates), 0 to g − 1."""


@dataclass(frozen=True)
class ClassParity:
    """How far a variant is from Keras on the slices that truly are of one class."""

    slices: int
    flipped: int
    label_agreement: float | None
    """None where there are no slices."""
    max_probability_difference: float | None
    max_logit_difference: float | None
    auc_change: Estimate
    """Of the class against the rest, variant minus Keras."""
    calibration_change: Estimate
    """Of the calibration error of the class's probability on all slices, variant minus Keras."""


@dataclass(frozen=True)
class Parity:
    """How far a TFLite variant is from Keras, on the locked test set when it is judged."""

    slices: int
    label_agreement: float
    """Fraction of slices with the same most likely class."""
    flipped: int
    """Slices whose most likely class changed."""
    max_probability_difference: float
    mean_probability_difference: float
    max_logit_difference: float
    """Of the log-odds of a class, each kept within those of 0.1 % and 99.9 %."""
    changes: Mapping[str, Estimate] = field(default_factory=dict)
    """Metric → variant minus Keras, with its interval; empty where an answer is no number."""
    classes: Mapping[str, ClassParity] = field(default_factory=dict)
    """By the true class."""


def compare(keras: Reference, tflite: npt.NDArray[np.float64], params: "ExportParams") -> Parity:
    """Returns the parity of (slices, classes) probabilities with Keras'.

    Raises:
        ValueError: the shapes differ or there is no slice.
    """
    expected = keras.probabilities
    if expected.shape != tflite.shape or not len(expected):
        raise ValueError(
            "Parity compares the same slices and classes. Received: shapes "
            f"{expected.shape} and {tflite.shape}."
        )
    finite = np.isfinite(tflite).all(axis=1)
    same = (expected.argmax(axis=1) == tflite.argmax(axis=1)) & finite
    difference = np.abs(expected - tflite)
    kept = [np.clip(each, 1e-3, 1 - 1e-3) for each in (expected, tflite)]
    logit_difference = np.abs(np.log(kept[0] / (1 - kept[0])) - np.log(kept[1] / (1 - kept[1])))
    changes: dict[str, Estimate] = {}
    if finite.all():
        differences = estimate_difference(keras.truth, (tflite, expected), keras.groups, params)
        changes = {name: change for name, (_, _, change) in differences.items()}
    return Parity(
        slices=len(expected),
        label_agreement=float(same.mean()),
        flipped=int((~same).sum()),
        max_probability_difference=float(difference.max()),
        mean_probability_difference=float(difference.mean()),
        max_logit_difference=float(logit_difference.max()),
        changes={name: changes[name] for name in CHANGES if changes},
        classes={
            name: _compare_class(
                keras.truth == label,
                same,
                difference,
                logit_difference,
                auc_change=changes.get(f"auc_{name}", UNDEFINED),
                calibration_change=changes.get(f"calibration_error_{name}", UNDEFINED),
            )
            for label, name in enumerate(params.classes)
        },
    )


def _compare_class(
    of_class: npt.NDArray[np.bool_],
    same: npt.NDArray[np.bool_],
    difference: Floats,
    logit_difference: Floats,
    auc_change: Estimate,
    calibration_change: Estimate,
) -> ClassParity:
    slices = int(of_class.sum())
    return ClassParity(
        slices=slices,
        flipped=int((~same[of_class]).sum()),
        label_agreement=float(same[of_class].mean()) if slices else None,
        max_probability_difference=float(difference[of_class].max()) if slices else None,
        max_logit_difference=float(logit_difference[of_class].max()) if slices else None,
        auc_change=auc_change,
        calibration_change=calibration_change,
    )


def judge(variant: str, parity: Parity, params: "ExportParams") -> list[dict[str, Any]]:
    """Returns the rules on a variant, in the form of `decision.json`; a figure that is not finite fails.

    A change of a metric is judged by the worse end of its interval. What is undefined for these slices, as
    the AUC is where a class has none, is not judged: the gate has refused such a test set already.
    """
    rules = [
        _rule(
            f"tflite_{variant}_label_agreement",
            parity.label_agreement >= params.min_label_agreement,
            parity.label_agreement,
            params.min_label_agreement,
            f"{parity.flipped} of {parity.slices} test slices change their class in TFLite {variant}.",
        ),
        _rule(
            f"tflite_{variant}_probability_difference",
            parity.max_probability_difference <= params.max_probability_difference,
            parity.max_probability_difference,
            params.max_probability_difference,
            f"A probability changes by at most this much in TFLite {variant}.",
        ),
        _rule(
            f"tflite_{variant}_logit_difference",
            parity.max_logit_difference <= params.max_logit_difference,
            parity.max_logit_difference,
            params.max_logit_difference,
            f"A class's log-odds change by at most this much in TFLite {variant}.",
        ),
    ]
    agreements = [
        (each.label_agreement, name, each)
        for name, each in parity.classes.items()
        if each.label_agreement is not None
    ]
    if agreements:
        agreement, name, worst = min(agreements, key=lambda found: found[0])
        rules.append(
            _rule(
                f"tflite_{variant}_class_agreement",
                agreement >= params.min_class_label_agreement,
                agreement,
                params.min_class_label_agreement,
                f"{worst.flipped} of {worst.slices} test slices of class {name}, the worst, change theirs in "
                f"TFLite {variant}.",
            )
        )
    auc, error = parity.changes.get("macro_auc"), parity.changes.get("calibration_error")
    if auc and np.isfinite(auc.value):
        lowest = auc.low if np.isfinite(auc.low) else auc.value
        rules.append(
            _rule(
                f"tflite_{variant}_auc_change",
                lowest >= -params.max_auc_loss,
                lowest,
                -params.max_auc_loss,
                f"The macro AUC changes by {auc.value:+.4f} in TFLite {variant}. The lower bound is judged.",
            )
        )
    if error and np.isfinite(error.value):
        highest = error.high if np.isfinite(error.high) else error.value
        rules.append(
            _rule(
                f"tflite_{variant}_calibration_change",
                highest <= params.max_calibration_loss,
                highest,
                params.max_calibration_loss,
                f"The calibration error changes by {error.value:+.4f} in TFLite {variant}. "
                "The upper bound is judged.",
            )
        )
    return rules


def _rule(name: str, passed: bool, observed: float, required: float, message: str) -> dict[str, Any]:
    finite = bool(np.isfinite(observed))
    return {
        "name": name,
        "passed": bool(passed) and finite,
        "observed": round(observed, 6) if finite else None,
        "required": required,
        "message": message,
    }


def as_json(
    parities: Mapping[str, Parity], measured: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Returns `parity.json`: variant → how near it is to Keras, and what else is known of its file."""
    return {
        variant: {
            **asdict(parity),
            "changes": to_json(parity.changes),
            "classes": {
                name: {
                    **asdict(each),
                    **to_json({"auc_change": each.auc_change, "calibration_change": each.calibration_change}),
                }
                for name, each in parity.classes.items()
            },
            **measured[variant],
        }
        for variant, parity in parities.items()
    }
