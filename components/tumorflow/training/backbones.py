"""Backbones: images (batch, height, width, 3), float32 0–255, to maps (batch, height / 32, width / 32, 1280).

Each holds its own scaling of the input and is a functional model of plain Keras layers, so that a saved model
loads without this package.
"""

from pathlib import Path
from typing import Any, NamedTuple

from tumorflow.errors import ParameterError, SourceError, UnavailableError
from tumorflow.files import hash_file

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
    """Returns a backbone as a Keras model, and where its weights are from: `{"origin", "sha256"}`.

    Args:
        name: `efficientnet_lite0` or `efficientnet_b0`.
        weights: `imagenet`, `none` (random, from the global seed), or the path of a Keras weights file.
        image_size_px: height and width of the square input, at least 32.

    Raises:
        SourceError: the weights file is missing or does not fit the backbone.
        UnavailableError: the ImageNet weights cannot be had here.
    """
    builders = {"efficientnet_lite0": _build_lite0, "efficientnet_b0": _build_b0}
    if name not in builders:
        raise ParameterError(f"A backbone is one of {', '.join(builders)}. Received: '{name}'.")
    if weights == "imagenet":
        model, origin = builders[name](image_size_px, imagenet=True)
    else:
        model, _ = builders[name](image_size_px, imagenet=False)
        origin = (
            {"origin": "random", "sha256": ""} if weights == "none" else load_weights(model, Path(weights))
        )
    return model, origin


def load_weights(model: Any, path: Path) -> dict[str, str]:
    """Loads a Keras weights file into `model` and returns `{"origin", "sha256"}` of the file.

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
    return {"origin": path.name, "sha256": hash_file(path)}


def _build_lite0(image_size_px: int, imagenet: bool) -> tuple[Any, dict[str, str]]:
    from tumorflow.training import checkpoint

    model = build_efficientnet_lite0(image_size_px)
    if not imagenet:
        return model, {}
    path = checkpoint.find_lite0_checkpoint()
    tensors = checkpoint.read_checkpoint(path, sha256=checkpoint.LITE0_SHA256)
    model.set_weights(checkpoint.order_lite0_weights(tensors))
    return model, {"origin": checkpoint.LITE0_ORIGIN, "sha256": checkpoint.LITE0_SHA256}


def _build_b0(image_size_px: int, imagenet: bool) -> tuple[Any, dict[str, str]]:
    import keras

    shape = (image_size_px, image_size_px, 3)
    try:
        model = keras.applications.EfficientNetB0(
            include_top=False, weights="imagenet" if imagenet else None, input_shape=shape
        )
    except (OSError, ValueError) as error:
        raise UnavailableError(
            "ImageNet weights of EfficientNetB0 are downloaded by Keras at run time. "
            f"Received: {type(error).__name__} from the download. Run where the internet can be reached, "
            "or set train.weights to the path of a weights file or to 'none', "
            "or train.backbone to 'efficientnet_lite0'."
        ) from error
    return model, {"origin": "keras.applications imagenet", "sha256": ""} if imagenet else {}


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
