"""Takes back the constant part of what quantisation does to the features.

Rounding weights shifts the mean of each feature; the shift is measured on training slices and taken out of
the bias of the layer that reads them (empirical bias correction: Nagel et al. 2019, arXiv 1906.04721, 4.2).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.export.conversion import convert
from tumorflow.litert import classify_all


def correct_bias(model: Any, slices: Sequence[npt.NDArray[np.uint8]]) -> Any:
    """Returns a copy of a Keras model whose dynamic-range conversion has the original's mean features.

    Only the first dense layer after the pooling differs. A model without such a pair is copied as it is.

    Args:
        model: pooling → dense → … → probabilities.
        slices: training slices, uint8 (height, width, 3).
    """
    import keras

    corrected = keras.models.clone_model(model)
    corrected.set_weights(model.get_weights())
    pooling = [layer for layer in corrected.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    dense = [layer for layer in corrected.layers if isinstance(layer, keras.layers.Dense)]
    if not pooling or not dense or dense[0].kernel.shape[0] != pooling[-1].output.shape[-1]:
        return corrected
    features = keras.Model(corrected.inputs, pooling[-1].output)
    exact = features.predict(np.array(slices, dtype=np.float32), verbose=0)
    rounded = classify_all(convert(features, "dynamic"), slices)
    kernel, bias = dense[0].get_weights()
    dense[0].set_weights([kernel, shift_bias(kernel, bias, exact, rounded)])
    return corrected


def shift_bias(
    kernel: npt.NDArray[np.floating],
    bias: npt.NDArray[np.floating],
    exact: npt.NDArray[np.floating],
    rounded: npt.NDArray[np.floating],
) -> npt.NDArray[np.float32]:
    """Returns the bias with which `rounded` features give on average what `exact` ones gave.

    Args:
        kernel: (features, units).
        bias: (units,).
        exact: (slices, features).
        rounded: (slices, features).
    """
    shift = exact.mean(axis=0, dtype=np.float64) - rounded.mean(axis=0, dtype=np.float64)
    corrected: npt.NDArray[np.float32] = (bias + shift @ kernel).astype(np.float32)
    return corrected
