"""Probabilities that mean what they say: one temperature, fitted on slices that were not learned from.

Guo et al. 2017, arXiv 1706.04599. The temperature goes into the last layer's numbers, so that every form of
the model, TFLite's among them, gives calibrated probabilities by itself.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

HIGHEST_TEMPERATURE = 10.0


def fit_temperature(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.int64]) -> float:
    """Returns the temperature, 1 to 10, with which the cross-entropy is lowest.

    Never below 1: a few validation slices that are all right would ask for certainty.

    Args:
        probabilities: (slices, classes), rows summing to 1.
        labels: class indices (slices,).
    """
    from scipy.optimize import minimize_scalar

    scores = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))

    def cross_entropy(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(scaled).sum(axis=1))
        return float((log_sums - scaled[np.arange(len(labels)), labels]).mean())

    found = minimize_scalar(cross_entropy, bounds=(0.0, np.log(HIGHEST_TEMPERATURE)), method="bounded")
    return float(np.exp(found.x)) if found.fun < cross_entropy(0.0) else 1.0


def soften(network: Any, temperature: float) -> None:
    """Divides the scores of a Keras model, whose last layer is dense with softmax, by a temperature."""
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([kernel / temperature, bias / temperature])
