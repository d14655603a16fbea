"""CBAM, the convolutional block attention module (Woo et al. 2018, arXiv 1807.06521), from plain layers.

Maps are (batch, height, width, channels), float32. No class is defined here, so that a saved model
loads without this package.
"""

from typing import Any

CHANNEL_RATIO = 8
SPATIAL_KERNEL = 7


def attend(maps: Any) -> Any:
    """Returns the maps weighted first by channel, then by place; the shape is kept (section 3)."""
    return attend_places(attend_channels(maps))


def attend_channels(maps: Any) -> Any:
    """Returns the maps times a weight in 0–1 for each channel (equation 2).

    The weight is the sigmoid of what one shared perceptron makes of the channel's mean and of its maximum.
    """
    from keras import layers

    channels = maps.shape[-1]
    squeeze = layers.Dense(max(1, channels // CHANNEL_RATIO), activation="relu", name="cbam_squeeze")
    excite = layers.Dense(channels, name="cbam_excite")
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="cbam_channel_mean")(maps)
    peak = layers.GlobalMaxPooling2D(keepdims=True, name="cbam_channel_peak")(maps)
    total = layers.Add(name="cbam_channel_sum")([excite(squeeze(mean)), excite(squeeze(peak))])
    weight = layers.Activation("sigmoid", name="cbam_channel_weight")(total)
    return layers.Multiply(name="cbam_channel")([maps, weight])


def attend_places(maps: Any) -> Any:
    """Returns the maps times a weight in 0–1 for each place (equation 3).

    The weight is the sigmoid of a 7×7 convolution over the channels' mean and maximum at each place.
    """
    from keras import layers, ops

    mean = ops.mean(maps, axis=-1, keepdims=True)
    peak = ops.max(maps, axis=-1, keepdims=True)
    both = layers.Concatenate(name="cbam_places")([mean, peak])
    weight = layers.Conv2D(
        1, SPATIAL_KERNEL, padding="same", use_bias=False, activation="sigmoid", name="cbam_spatial_weight"
    )(both)
    return layers.Multiply(name="cbam_spatial")([maps, weight])
