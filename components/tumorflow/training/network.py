"""The whole network: backbone → (attention) → global average pooling → Dense → Dropout → softmax.

It is one flat functional model, so that Grad-CAM and TFLite see every layer.
"""

import math
from typing import Any, NamedTuple

from tumorflow.params import TrainParams
from tumorflow.training.attention import attend


class Network(NamedTuple):
    """The whole, and the backbone that it begins with; they share their layers."""

    whole: Any
    backbone: Any


def build_network(backbone: Any, params: TrainParams) -> Network:
    """Returns the network on `backbone`: (batch, height, width, 3), float32 0–255, to softmax probabilities.

    The probabilities are in the order of `params.classes`. New layers are random from the global seed.
    """
    import keras
    from keras import layers

    maps = attend(backbone.output) if params.attention == "cbam" else backbone.output
    pooled = layers.GlobalAveragePooling2D(name="pooled")(maps)
    hidden = layers.Dense(params.dense_units, activation="relu", name="hidden")(pooled)
    kept = layers.Dropout(params.dropout, name="dropout")(hidden)
    probabilities = layers.Dense(len(params.classes), activation="softmax", name="probabilities")(kept)
    whole = keras.Model(backbone.input, probabilities, name=f"tumorflow_{params.backbone}")
    return Network(whole, backbone)


def split_network(network: Network, pooled: bool) -> tuple[Any, Any]:
    """Returns the network in two, what is frozen and the head that learns from it; layers are shared.

    Args:
        network: what to split.
        pooled: whether to cut behind the pooling, which needs a head without attention, or before it.
    """
    import keras

    whole, backbone = network
    cut = whole.get_layer("pooled").output if pooled else backbone.output
    return keras.Model(whole.input, cut), keras.Model(cut, whole.output)


def unfreeze(backbone: Any) -> None:
    """Lets the backbone learn, but for its batch normalisation, which stays in inference mode.

    A few hundred slices are too few for new statistics (Keras guide "Transfer learning & fine-tuning").
    """
    import keras

    backbone.trainable = True
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def count_parameters(network: Network) -> tuple[int, int]:
    """Returns how many numbers the network holds, and how many of them are trained."""
    trainable = sum(math.prod(weight.shape) for weight in network.whole.trainable_weights)
    return int(network.whole.count_params()), trainable
