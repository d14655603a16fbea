"""Backbones: images (batch, height, width, 3), float32 0–255, to maps (batch, height / 32, width / 32, 1280).

Each holds its own scaling of the input and is a functional model of plain Keras layers, so that a saved model
loads without this package.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from tumorflow.errors import ParameterError, SourceError, UnavailableError
from tumorflow.training import checkpoint

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


class Stage(NamedTuple):
    """A run of inverted residual blocks; the first one has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (  # EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, table 1)
    Stage(1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(1, kernel=3, stride=1, expansion=6, channels=320),
)


def build_backbone(name: str, weights: str, image_size_px: int) -> tuple[Any, dict[str, str]]:
    """Returns a backbone as a Keras model, and whence its weights are: `origin`, and their `sha256`.

    The SHA-256 is that of the arrays, so that the same weights out of two kinds of file have the same one.

    Args:
        name: `efficientnet_lite0` or `efficientnet_b0`.
        weights: `imagenet`, `none` (random, from the global seed), or the path of a Keras weights file.
        image_size_px: height and width of the square input, at least 32.

    Raises:
        ParameterError: there is no such backbone.
        SourceError: the weights file is missing or does not fit the backbone.
        UnavailableError: the ImageNet weights cannot be had here.
    """
    if name == "efficientnet_lite0":
        model = build_efficientnet_lite0(image_size_px)
    elif name == "efficientnet_b0":
        model = build_efficientnet_b0(image_size_px, imagenet=weights == "imagenet")
    else:
        raise ParameterError(f"A backbone is efficientnet_lite0 or efficientnet_b0. Received: '{name}'.")
    if weights == "none":
        origin = "random"
    elif weights != "imagenet":
        origin = load_weights(model, Path(weights))
    elif name == "efficientnet_lite0":
        origin = load_lite0_checkpoint(model)
    else:
        origin = "keras.applications"
    return model, {"origin": origin, "sha256": hash_weights(model)}


def load_weights(model: Any, path: Path) -> str:
    """Loads a Keras weights file into `model` and returns the file's name.

    Raises:
        SourceError: the file is missing or does not fit the model.
    """
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(
            f"Backbone weights are a Keras weights file (.weights.h5) that fits {model.name}. "
            f"Received: {type(error).__name__} for {path}. Check train.weights; 'imagenet' needs no file."
        ) from error
    return path.name


def load_lite0_checkpoint(model: Any) -> str:
    """Loads ImageNet weights into an EfficientNet-Lite0 and returns the package that ships them.

    Raises:
        SourceError: the package's file is not the one that is known.
        UnavailableError: the package is not installed.
    """
    tensors = checkpoint.read_checkpoint(checkpoint.find_lite0_checkpoint(), checkpoint.LITE0_SHA256)
    model.set_weights(checkpoint.order_lite0_weights(tensors))
    return checkpoint.LITE0_ORIGIN


def hash_weights(model: Any) -> str:
    """Returns the SHA-256 of all weights of a model, in their order, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(array.tobytes())
    return digest.hexdigest()


def build_efficientnet_b0(image_size_px: int, imagenet: bool) -> Any:
    """Returns EfficientNetB0 without its top from keras.applications, which scales 0–255 inside.

    Raises:
        UnavailableError: `imagenet` is asked for, and its weights cannot be downloaded.
    """
    import keras

    shape = (image_size_px, image_size_px, 3)
    try:
        return keras.applications.EfficientNetB0(
            include_top=False, weights="imagenet" if imagenet else None, input_shape=shape
        )
    except Exception as error:
        # keras.utils.get_file raises a bare Exception where the download fails
        if type(error) is not Exception and not isinstance(error, (OSError, ValueError)):
            raise
        raise UnavailableError(
            "ImageNet weights of EfficientNetB0 are downloaded by Keras at run time. "
            f"Received: no file, {error}. Run where the internet can be reached, "
            "or set train.weights to the path of a weights file or to 'none', "
            "or train.backbone to 'efficientnet_lite0', whose weights are installed."
        ) from error


def build_efficientnet_lite0(image_size_px: int) -> Any:
    """Returns EfficientNet-Lite0 without its top, untrained: B0 without squeeze-and-excite, ReLU6 throughout.

    The input is scaled by (x − 127) / 128 inside. Source: Liu 2020, "Higher accuracy on vision models with
    EfficientNet-Lite"; stem and head keep their width in every Lite variant.
    """
    import keras
    from keras import layers

    images = keras.Input((image_size_px, image_size_px, 3), name="images")
    maps = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescaling")(images)
    maps = layers.Conv2D(STEM_CHANNELS, 3, 2, "same", use_bias=False, name="stem")(maps)
    maps = _clip(_normalise(maps, "stem"), "stem")
    for number, stage in enumerate(STAGES, start=1):
        for repeat, letter in zip(range(stage.repeats), "abcd", strict=False):
            block = stage if repeat == 0 else stage._replace(stride=1)
            maps = _invert_residual(maps, block, name=f"stage{number}{letter}")
    maps = _clip(_mix(maps, HEAD_CHANNELS, "top"), "top")
    return keras.Model(images, maps, name="efficientnet_lite0")


def _invert_residual(maps: Any, block: Stage, name: str) -> Any:
    """Returns the maps after one inverted residual block (Sandler et al. 2018, arXiv 1801.04381)."""
    from keras import layers

    received = maps
    if block.expansion > 1:
        expanded = f"{name}_expand"
        maps = _clip(_mix(maps, received.shape[-1] * block.expansion, expanded), expanded)
    depthwise = f"{name}_depthwise"
    maps = layers.DepthwiseConv2D(block.kernel, block.stride, "same", use_bias=False, name=depthwise)(maps)
    maps = _mix(_clip(_normalise(maps, depthwise), depthwise), block.channels, f"{name}_project")
    if block.stride == 1 and received.shape[-1] == block.channels:
        maps = layers.Add(name=f"{name}_add")([received, maps])
    return maps


def _mix(maps: Any, channels: int, name: str) -> Any:
    """Returns normalised maps with another number of channels, each place on its own."""
    from keras import layers

    return _normalise(layers.Conv2D(channels, 1, use_bias=False, name=name)(maps), name)


def _normalise(maps: Any, name: str) -> Any:
    from keras import layers

    return layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm")(maps)


def _clip(maps: Any, name: str) -> Any:
    from keras import layers

    return layers.ReLU(6.0, name=f"{name}_relu6")(maps)
