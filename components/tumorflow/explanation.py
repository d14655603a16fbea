"""Grad-CAM's arithmetic, the same for the report and for a service without TensorFlow.

Selvaraju et al. 2017, arXiv 1610.02391.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]
NAMED_MAP = "feature_map"


def find_feature_map(model: Any) -> Any | None:
    """Returns a Keras model's symbolic feature map (batch, rows, columns, channels) pooled last, or None.

    It is the output of the layer called `feature_map`, else what the last layer takes that turns maps into
    vectors. The poolings inside attention blocks come earlier in the graph.
    """
    for layer in model.layers:
        if layer.name == NAMED_MAP:
            return layer.output
    for layer in reversed(model.layers):
        taken, given = getattr(layer, "input", None), getattr(layer, "output", None)
        if hasattr(layer, "layers") or isinstance(taken, list) or isinstance(given, list):
            continue
        if rank(taken) == 4 and rank(given) == 2:
            return taken
    return None


def rank(tensor: Any) -> int:
    """Returns how many axes a symbolic tensor has; 0 for none."""
    return len(getattr(tensor, "shape", ()))


def weigh(maps: Floats32, gradients: Floats32, height: int, width: int) -> Floats32:
    """Returns the heat map (height, width) float32, 0 to 1, of one slice (equations 1 and 2).

    `maps` and their `gradients` are (rows, columns, channels). The strongest place is 1, unless nothing is
    positive or finite: then all is 0.
    """
    import cv2

    heat = np.maximum(maps @ gradients.mean(axis=(0, 1)), 0)
    peak = heat.max(initial=0)
    if not np.isfinite(peak) or peak <= 0:
        return np.zeros((height, width), dtype=np.float32)
    enlarged = cv2.resize((heat / peak).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(enlarged, 0, 1), dtype=np.float32)


@dataclass(frozen=True)
class Head:
    """What follows the feature map: its mean over all places, then dense layers, ReLU between them."""

    layers: Sequence[tuple[Floats32, Floats32]]
    """Kernel (inputs, units) and bias (units,) of each; the last gives the scores before the softmax."""

    def explain(self, feature_map: Floats32, label: int, height: int, width: int) -> Floats32:
        """Returns the heat map (height, width) float32, 0 to 1, of a class.

        Args:
            feature_map: (rows, columns, channels) of one slice.
            label: place of the class. Who answered says which: a quantised model's head may say another
                than this one.
            height: of the heat map.
            width: of the heat map.
        """
        values = feature_map.mean(axis=(0, 1))
        before_relu = []
        for kernel, bias in self.layers[:-1]:
            before_relu.append(values @ kernel + bias)
            values = np.maximum(before_relu[-1], 0)
        gradient = self.layers[-1][0][:, label]
        for (hidden, _), scores in zip(reversed(self.layers[:-1]), reversed(before_relu), strict=True):
            gradient = hidden @ (gradient * (scores > 0))
        rows, columns, channels = feature_map.shape
        everywhere = np.broadcast_to(gradient / (rows * columns), (rows, columns, channels))
        return weigh(feature_map, everywhere.astype(np.float32), height, width)

    def as_arrays(self) -> dict[str, Floats32]:
        """Returns the layers by name, for a file."""
        return {
            f"head_{number}_{name}": array
            for number, layer in enumerate(self.layers)
            for name, array in zip(("kernel", "bias"), layer, strict=True)
        }


def head_of_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Head | None:
    """Returns the head that `Head.as_arrays` wrote; None where the arrays hold none."""
    layers: list[tuple[Floats32, Floats32]] = []
    while (kernel := f"head_{len(layers)}_kernel") in arrays:
        layers.append((arrays[kernel], arrays[f"head_{len(layers)}_bias"]))
    return Head(layers) if layers else None


@dataclass(frozen=True)
class FeatureDistribution:
    """Where the pooled features of training slices lie: what is far from them was not learned from."""

    mean: Floats32
    deviation: Floats32
    limit: float
    """Distance that 99 % of the validation slices keep."""

    def distance(self, features: Floats32) -> npt.NDArray[np.float64]:
        """Returns how far slices are, (slices,): the root mean squared standard score of their features.

        Args:
            features: (slices, channels).
        """
        scores = (features - self.mean).astype(np.float64) / self.deviation
        distances: npt.NDArray[np.float64] = np.sqrt((scores**2).mean(axis=1))
        return distances


def describe_features(training: Floats32, validation: Floats32) -> FeatureDistribution:
    """Returns the distribution of pooled features.

    Args:
        training: (slices, channels).
        validation: of slices that the features' mean and deviation do not come from, (slices, channels).
    """
    deviation = training.std(axis=0)
    floor = max(
        float(deviation.mean()) * 0.1, 1e-6
    )  # a channel that is nearly constant must not decide alone
    spread = FeatureDistribution(
        training.mean(axis=0).astype(np.float32), np.maximum(deviation, floor).astype(np.float32), 0.0
    )
    limit = float(np.quantile(spread.distance(validation), 0.99))
    return FeatureDistribution(spread.mean, spread.deviation, limit)
