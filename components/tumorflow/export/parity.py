"""Does the exported model still give Keras' answers?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tumorflow.params import ExportParams


@dataclass(frozen=True)
class Parity:
    """How far a TFLite variant is from Keras on the locked test set."""

    slices: int
    label_agreement: float
    """Fraction of slices with the same most likely class."""
    flipped: int
    """Slices whose most likely class changed."""
    max_probability_difference: float
    mean_probability_difference: float
    max_logit_difference: float
    """Of the log-odds of a class, where both are within 0.1 % and 99.9 %."""


def compare(keras: npt.NDArray[np.float64], tflite: npt.NDArray[np.float64]) -> Parity:
    """Returns the parity of two (slices, classes) arrays of probabilities.

    Raises:
        ValueError: the shapes differ or there is no slice.
    """
    if keras.shape != tflite.shape or not len(keras):
        raise ValueError(
            f"Parity compares the same slices and classes. Received: shapes {keras.shape} and {tflite.shape}."
        )
    same = (keras.argmax(axis=1) == tflite.argmax(axis=1)) & np.isfinite(tflite).all(axis=1)
    difference = np.abs(keras - tflite)
    logits = [
        np.log(odds / (1 - odds)) for odds in (np.clip(each, 1e-3, 1 - 1e-3) for each in (keras, tflite))
    ]
    return Parity(
        slices=len(keras),
        label_agreement=float(same.mean()),
        flipped=int((~same).sum()),
        max_probability_difference=float(difference.max()),
        mean_probability_difference=float(difference.mean()),
        max_logit_difference=float(np.abs(logits[0] - logits[1]).max()),
    )


def judge(variant: str, parity: Parity, params: "ExportParams") -> list[dict[str, Any]]:
    """Returns two rules on a variant, in the form of `decision.json`; a figure that is not finite fails."""
    return [
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
    ]


def _rule(name: str, passed: bool, observed: float, required: float, message: str) -> dict[str, Any]:
    finite = bool(np.isfinite(observed))
    return {
        "name": name,
        "passed": passed and finite,
        "observed": round(observed, 6) if finite else None,
        "required": required,
        "message": message,
    }


def as_json(
    parities: Mapping[str, Parity], measured: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Returns `parity.json`: variant → how near it is to Keras, and what was measured of its file."""
    return {variant: {**asdict(parity), **measured[variant]} for variant, parity in parities.items()}
