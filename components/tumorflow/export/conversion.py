"""Keras to TFLite, quietly."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tumorflow.errors import UnavailableError
from tumorflow.explanation import NAMED_MAP, Head, find_feature_map
from tumorflow.native_output import STDERR, STDOUT, captured_output

FloatVariant = Literal["float32", "float16", "dynamic"]
PROBABILITIES = "probabilities"


def convert(model: Any, variant: FloatVariant) -> bytes:
    """Returns a Keras model as a TFLite flatbuffer with a batch of one.

    Args:
        model: a Keras model, (batch, height, width, 3) float32 0–255 → (batch, classes) probabilities.
        variant: `float32` keeps the weights as they are, `float16` halves them, `dynamic` stores them
            in 8 bits and computes in float32 where the kernels need it (dynamic-range quantisation).

    Raises:
        UnavailableError: the converter gave up; the message has its last words.
    """
    import tensorflow as tf

    with quiet_conversion(variant):
        converter = make_converter(model)
        if variant != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if variant == "float16":
            converter.target_spec.supported_types = [tf.float16]
        converted: bytes = converter.convert()
    return converted


def make_converter(model: Any) -> Any:
    """Returns TensorFlow's converter of a Keras model with a batch of one, which LiteRT.js asks for."""
    import tensorflow as tf

    shape = (1, *model.inputs[0].shape[1:])
    answering = tf.function(lambda pixels: model(pixels, training=False))
    concrete = answering.get_concrete_function(tf.TensorSpec(shape, tf.float32, name="pixels"))
    # without the model itself: with it, Keras 3's variables arrive empty
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete])


def save(model: Any, folder: Path) -> None:
    """Writes a Keras model as a SavedModel, (batch, height, width, 3) float32 0–255 → probabilities.

    Raises:
        UnavailableError: TensorFlow gave up.
    """
    with quiet_conversion("saved_model"):
        model.export(folder, format="tf_saved_model", verbose=False)


@contextmanager
def quiet_conversion(variant: str) -> Iterator[None]:
    """Keeps a converter's noise off the terminal, and says its failure in one sentence.

    Raises:
        UnavailableError: the converter gave up; the message has its last words.
    """
    with captured_output(STDOUT, STDERR) as log:
        try:
            yield
        except Exception as error:
            last_words = str(error).strip().splitlines()[-1:] or ["no detail"]
            raise UnavailableError(
                f"Every operation of the model has a TFLite counterpart. Received for variant {variant}: "
                f"{last_words[0][:300]} ({log.stat().st_size} bytes of log). Leave the attention or backbone "
                "that was changed last, or the variant."
            ) from error


def expose_feature_map(model: Any) -> Any:
    """Returns a Keras model that gives its last feature map beside the probabilities, where it has one.

    From both, and the head, Grad-CAM can be computed without TensorFlow.
    """
    import keras

    feature_map = find_feature_map(model)
    if feature_map is None:
        return model
    # Keras would number it, and the names of the nodes that quantisation is told of begin with it
    return keras.Model(model.inputs, {PROBABILITIES: model.output, NAMED_MAP: feature_map}, name="classifier")


def read_head(model: Any) -> Head | None:
    """Returns what follows a Keras model's last feature map; None where it is more than dense layers."""
    import keras

    feature_map = find_feature_map(model)
    pooled = [
        place
        for place, layer in enumerate(model.layers)
        if isinstance(layer, keras.layers.GlobalAveragePooling2D) and layer.input is feature_map
    ]
    if not pooled:
        return None
    layers = [layer for layer in model.layers[pooled[0] + 1 :] if not isinstance(layer, keras.layers.Dropout)]
    names = [layer.activation.__name__ for layer in layers if isinstance(layer, keras.layers.Dense)]
    if len(names) != len(layers) or names != ["relu"] * (len(layers) - 1) + ["softmax"]:
        return None
    return Head([(np.asarray(layer.kernel), np.asarray(layer.bias)) for layer in layers])
