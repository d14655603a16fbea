"""Fixtures: a small network that tells slices apart, in a file of its own that says how to use it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from service_client import ABOUT, SIZE, draw_body

from tumorflow.explanation import Head, describe_features
from tumorflow.litert import Classifier
from tumorflow.model_file import ModelFile, pack


@pytest.fixture(scope="session")
def flatbuffer() -> SimpleNamespace:
    """A network that tells slices apart, and what its file says beside."""
    from tumorflow.export.conversion import convert, expose_feature_map, read_head
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=11)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    x = keras.layers.Conv2D(8, 5, strides=3, activation="relu", kernel_initializer="he_normal")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(6, activation="relu", kernel_initializer="he_normal")(x)
    network = keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(x))
    head = read_head(network)
    assert head is not None
    exposed = expose_feature_map(network)
    return SimpleNamespace(content=convert(exposed, "float32"), head=head, network=exposed)


@pytest.fixture(scope="session")
def write_model(flatbuffer: SimpleNamespace) -> Callable[..., Path]:
    """Returns a function that writes a model's file; `about` lays settings over the usual ones.

    `content` is another form of the same network.
    """
    from ct_files import build_ct

    from tumorflow.params import Window
    from tumorflow.slices import to_hounsfield
    from tumorflow.tensors import to_tensor

    windows = [Window(**window) for window in ABOUT["preprocessing"]["windows"]]
    classifier = Classifier(flatbuffer.content)
    features = []
    for brightness in range(-100, 200, 10):
        stored = build_ct(draw_body(brightness)).pixel_array
        hounsfield = to_hounsfield(stored, 1, -1024)
        tensor = to_tensor(hounsfield, unit="HU", image_size_px=SIZE, windows=windows)
        features.append(classifier.answer(tensor).feature_map.mean(axis=(0, 1)))
    known = describe_features(np.array(features[::2]), np.array(features[1::2]))
    arrays = {
        **Head(flatbuffer.head.layers).as_arrays(),
        "feature_mean": known.mean,
        "feature_deviation": known.deviation,
    }

    def write(path: Path, content: bytes = flatbuffer.content, **about: Any) -> Path:
        tensors = Classifier(content).tensors
        described = {**ABOUT, "feature_distance_limit": known.limit, "tensors": tensors, **about}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(content, ModelFile(described, arrays)))
        return path

    return write
