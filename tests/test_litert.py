import numpy as np
import pytest

from tumorflow.errors import SourceError
from tumorflow.export.quantisation import convert_int8
from tumorflow.litert import Classifier, classify_all, dequantise, quantise

INT8 = {"dtype": np.int8, "quantization": (0.5, -3)}
FLOAT32 = {"dtype": np.float32, "quantization": (0.0, 0)}


def test_a_value_is_scale_times_what_is_stored_less_the_zero_point():
    assert quantise(np.array([0.0, 1.0, -2.6]), INT8).tolist() == [-3, -1, -8]
    assert dequantise(np.array([-3, -1, -8], np.int8), INT8).tolist() == [0.0, 1.0, -2.5]


def test_what_8_bits_cannot_hold_is_kept_at_their_end():
    stored = quantise(np.array([1000.0, -1000.0]), INT8)
    assert stored.dtype == np.int8
    assert stored.tolist() == [127, -128]


def test_float_tensors_hold_the_values_themselves():
    assert quantise(np.array([7], np.uint8), FLOAT32).dtype == np.float32
    assert dequantise(np.array([0.25], np.float32), FLOAT32).tolist() == [0.25]


def test_no_model_is_refused():
    with pytest.raises(SourceError, match=r"TFLite file.*Received: 7 bytes"):
        Classifier(b"nothing")


@pytest.mark.parametrize("io_type", ["int8", "uint8"])
def test_a_model_that_takes_and_gives_8_bits_answers_as_the_one_with_floats(io_type):
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=5)
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(x))
    generator = np.random.default_rng(5)
    slices = [(generator.random((8, 8, 3)) * top).astype(np.uint8) for top in (20, 120, 255)]
    answers = {
        kind: classify_all(convert_int8(network, slices, [], kind), slices) for kind in ("float32", io_type)
    }
    held = Classifier(convert_int8(network, slices, [], io_type)).tensors
    assert {name: each["type"] for name, each in held.items()} == {
        "pixels": io_type,
        "probabilities": io_type,
    }
    assert held["probabilities"]["scale"] == 1 / 256
    assert Classifier(convert_int8(network, slices, [], "float32")).tensors["pixels"] == {"type": "float32"}
    assert np.ptp(answers["float32"], axis=0).max() > 0.02, "a constant answer would test nothing"
    assert answers[io_type] == pytest.approx(answers["float32"], abs=0.02)
