"""A TFLite file and its answers: what export measures is what a service says. LiteRT alone, no TensorFlow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SourceError
from tumorflow.native_output import STDERR, captured_output

Real = TypeVar("Real", np.float32, np.float64)


@dataclass(frozen=True)
class Answer:
    """What a model says of one slice."""

    probabilities: npt.NDArray[np.float64]
    """(classes,)."""
    feature_map: npt.NDArray[np.float32] | None
    """(rows, columns, channels), of a model that gives it."""


class Classifier:
    """A TFLite classifier; not for several threads at once."""

    def __init__(self, flatbuffer: bytes, threads: int = 1) -> None:
        """Loads a model with a batch of one.

        Args:
            flatbuffer: the file's content; inputs and outputs are float32, or 8 bits with their scale.
            threads: for LiteRT's kernels; one makes the result repeatable.

        Raises:
            SourceError: it is no such model.
        """
        from ai_edge_litert.interpreter import Interpreter

        try:
            with captured_output(STDERR):  # the runtime greets there
                self._interpreter = Interpreter(model_content=flatbuffer, num_threads=threads)
                self._interpreter.allocate_tensors()
            (self._given,) = self._interpreter.get_input_details()
            outputs = {len(output["shape"]): output for output in self._interpreter.get_output_details()}
            self._probabilities, self._feature_map = outputs[2], outputs.get(4)
            self._batch = 1
        except (ValueError, RuntimeError, KeyError) as error:
            raise SourceError(
                "A model is a TFLite file with one input and an output of probabilities. "
                f"Received: {len(flatbuffer)} bytes, {type(error).__name__}. Export it again."
            ) from error

    @property
    def classes(self) -> int:
        """How many probabilities an answer has."""
        return int(self._probabilities["shape"][-1])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Height, width and channels of a slice."""
        return tuple(int(size) for size in self._given["shape"][1:])

    @property
    def tensors(self) -> dict[str, dict[str, Any]]:
        """How input and outputs hold their numbers: their type, and of 8 bits `scale` and `zero_point`."""
        details = {
            "pixels": self._given,
            "probabilities": self._probabilities,
            "feature_map": self._feature_map,
        }
        return {name: _describe_tensor(tensor) for name, tensor in details.items() if tensor}

    def answer(self, pixels: npt.NDArray[np.uint8]) -> Answer:
        """Returns what the model says of a slice (height, width, 3), 0–255."""
        return self.answer_all([pixels])[0]

    def answer_all(self, slices: Sequence[npt.NDArray[np.uint8]]) -> list[Answer]:
        """Returns what the model says of slices, each (height, width, 3), 0–255, by one call of it.

        Raises:
            RuntimeError, ValueError: the model takes one at a time.
        """
        index = self._given["index"]
        if len(slices) != self._batch:
            self._interpreter.resize_tensor_input(index, [len(slices), *self.input_shape])
            self._interpreter.allocate_tensors()
            self._batch = len(slices)
        self._interpreter.set_tensor(index, quantise(np.stack(slices), self._given))
        self._interpreter.invoke()
        probabilities = self._read(self._probabilities, np.float64)
        maps = self._read(self._feature_map, np.float32) if self._feature_map else [None] * len(slices)
        return [Answer(*each) for each in zip(probabilities, maps, strict=True)]

    def _read(self, tensor: dict[str, Any], dtype: type[Real]) -> npt.NDArray[Real]:
        stored = self._interpreter.get_tensor(tensor["index"])  # a copy
        return dequantise(stored, tensor).astype(dtype, copy=False)


def _describe_tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    held = {"type": np.dtype(tensor["dtype"]).name}
    if not np.issubdtype(tensor["dtype"], np.integer):
        return held
    scale, zero_point = tensor["quantization"]
    return {**held, "scale": float(scale), "zero_point": int(zero_point)}


def classify_all(
    flatbuffer: bytes, slices: Iterable[npt.NDArray[np.uint8]], threads: int = 1
) -> npt.NDArray[np.float64]:
    """Returns the probabilities of slices, float64 (slices, classes)."""
    classifier = Classifier(flatbuffer, threads)
    return np.array([classifier.answer(pixels).probabilities for pixels in slices])


def quantise(values: npt.NDArray[Any], tensor: dict[str, Any]) -> npt.NDArray[Any]:
    """Returns values as a tensor of the model holds them: value = scale × (stored − zero point).

    Args:
        values: real numbers.
        tensor: its details, as the interpreter tells them.
    """
    if not np.issubdtype(tensor["dtype"], np.integer):
        return values.astype(tensor["dtype"])
    scale, zero_point = tensor["quantization"]
    limits = np.iinfo(tensor["dtype"])
    stored = np.rint(values / scale + zero_point)
    clipped: npt.NDArray[Any] = np.clip(stored, limits.min, limits.max).astype(tensor["dtype"])
    return clipped


def dequantise(stored: npt.NDArray[Any], tensor: dict[str, Any]) -> npt.NDArray[np.floating]:
    """Returns the real numbers that a tensor of the model holds: as they are stored, or float64."""
    if not np.issubdtype(tensor["dtype"], np.integer):
        return stored
    scale, zero_point = tensor["quantization"]
    values: npt.NDArray[np.float64] = (stored.astype(np.float64) - zero_point) * scale
    return values
