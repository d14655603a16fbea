import numpy as np
import pytest

from tumorflow import litert
from tumorflow.export import bias_correction, conversion


def test_the_shift_by_hand():
    kernel = np.array([[1.0, 0.0], [2.0, -1.0]], np.float32)
    exact = np.array([[1.0, 3.0], [3.0, 5.0]])
    rounded = np.array([[0.5, 3.0], [2.5, 4.0]])  # means 1.5 and 3.5 in place of 2 and 4
    corrected = bias_correction.shift_bias(kernel, np.array([10.0, 20.0], np.float32), exact, rounded)
    assert corrected == pytest.approx([10 + 0.5 * 1 + 0.5 * 2, 20 - 0.5])


def test_features_that_did_not_move_leave_the_bias():
    bias = np.array([1.0, -1.0], np.float32)
    features = np.ones((3, 4))
    assert bias_correction.shift_bias(np.ones((4, 2), np.float32), bias, features, features) == pytest.approx(
        bias
    )


@pytest.fixture(scope="module")
def network():
    """A net whose weights are large enough in number to be quantised, and coarse enough to suffer from it."""
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=4)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for filters in (32, 64, 128):
        x = keras.layers.Conv2D(filters, 3, strides=2, activation="relu", kernel_initializer="he_normal")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(16, activation="relu", kernel_initializer="he_normal")(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


def test_a_corrected_models_mean_features_are_nearer_to_keras_once_quantised(network):
    import keras

    random = np.random.default_rng(1)
    slices = list(random.integers(0, 256, (16, 8, 8, 3)).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8))
    before = [weights.copy() for weights in network.get_weights()]

    def quantise(model):
        return conversion.convert(conversion.expose_feature_map(model), "dynamic")

    corrected = bias_correction.correct_bias(network, slices, quantise)

    def hidden(model):
        return keras.Model(model.inputs, model.layers[-2].output)

    def quantised_mean(model):
        return litert.classify_all(conversion.convert(hidden(model), "dynamic"), slices).mean(axis=0)

    exact = hidden(network).predict(np.array(slices, np.float32), verbose=0).mean(axis=0)
    assert np.abs(quantised_mean(corrected) - exact).sum() < np.abs(quantised_mean(network) - exact).sum()
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
