"""Does the exported model still give Keras' answers?"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow.export.conversion import captured_output

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
    return Parity(
        slices=len(keras),
        label_agreement=float(same.mean()),
        flipped=int((~same).sum()),
        max_probability_difference=float(difference.max()),
        mean_probability_difference=float(difference.mean()),
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


def predict_with_tflite(
    flatbuffer: bytes, slices: Iterable[npt.NDArray[np.uint8]], threads: int = 1
) -> npt.NDArray[np.float64]:
    """Returns the probabilities of a TFLite model, float64 (slices, classes), one slice at a time.

    Args:
        flatbuffer: a model with a batch of one.
        slices: uint8 arrays (height, width, 3).
        threads: for LiteRT's kernels; one makes the result repeatable.
    """
    from ai_edge_litert.interpreter import Interpreter

    with captured_output():  # the runtime greets on stderr
        interpreter = Interpreter(model_content=flatbuffer, num_threads=threads)
        interpreter.allocate_tensors()
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for pixels in slices:
        interpreter.set_tensor(given["index"], pixels[np.newaxis].astype(np.float32))
        interpreter.invoke()
        answers.append(interpreter.get_tensor(wanted["index"])[0].astype(np.float64))
    return np.array(answers)


def as_json(parities: Mapping[str, Parity], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Returns `parity.json`: variant → figures and size in bytes."""
    return {variant: {**asdict(parity), "size_bytes": sizes[variant]} for variant, parity in parities.items()}
