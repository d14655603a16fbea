"""Takes back the constant part of what quantisation does to the features.

Rounding weights shifts the mean of each feature; the shift is measured on training slices and taken out of
the bias of the layer that reads them (empirical bias correction: Nagel et al. 2019, arXiv 1906.04721, 4.2).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.explanation import find_feature_map
from tumorflow.litert import Classifier


def correct_bias(model: Any, slices: Sequence[npt.NDArray[np.uint8]], convert: Callable[[Any], bytes]) -> Any:
    """Returns a copy of a Keras model whose converted form has the original's mean features.

    Only the first dense layer after the pooling differs. A model without such a pair is returned as it is.

    Args:
        model: feature map → pooling → dense → … → probabilities.
        slices: training slices, uint8 (height, width, 3).
        convert: Keras model → TFLite that gives the feature map too.
    """
    import keras

    feature_map = find_feature_map(model)
    dense = next((layer for layer in model.layers if isinstance(layer, keras.layers.Dense)), None)
    if feature_map is None or dense is None or dense.kernel.shape[0] != feature_map.shape[-1]:
        return model
    mapping = keras.Model(model.inputs, feature_map)
    classifier = Classifier(convert(model))
    exact, rounded = [], []
    for pixels in slices:
        exact.append(mapping.predict_on_batch(pixels[np.newaxis].astype(np.float32))[0].mean(axis=(0, 1)))
        given = classifier.answer(pixels).feature_map
        if given is None:
            return model
        rounded.append(given.mean(axis=(0, 1)))
    corrected = keras.models.clone_model(model)
    corrected.set_weights(model.get_weights())
    kernel, bias = dense.get_weights()
    shifted = shift_bias(kernel, bias, np.array(exact), np.array(rounded))
    corrected.get_layer(dense.name).set_weights([kernel, shifted])
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
