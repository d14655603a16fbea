import numpy as np
import pytest

from tumorflow import litert
from tumorflow.export import conversion


@pytest.fixture(scope="module")
def trained_model():
    """A small convolutional net whose answers differ from slice to slice."""
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=3)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer="he_normal")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


@pytest.fixture(scope="module")
def slices():
    ramp = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3)
    return [
        np.roll(ramp * scale, shift, axis=0).astype(np.uint8) for scale in (0.1, 0.5, 1) for shift in (0, 9)
    ]


@pytest.mark.parametrize(("variant", "tolerance"), [("float32", 1e-5), ("dynamic", 0.05)])
def test_tflite_answers_as_keras_does(trained_model, slices, variant, tolerance, capfd):
    expected = trained_model.predict(np.array(slices, dtype=np.float32), verbose=0).astype(np.float64)
    assert np.ptp(expected, axis=0).max() > 0.05, "a constant answer would test nothing"
    flatbuffer = conversion.convert(trained_model, variant)
    answers = litert.classify_all(flatbuffer, slices)
    assert answers == pytest.approx(expected, abs=tolerance)
    assert capfd.readouterr() == ("", "")
