import numpy as np
import pytest

from tumorflow.tensorflow_runtime import configure
from tumorflow.training.attention import attend, attend_channels, attend_places


@pytest.fixture(scope="module")
def keras():
    return configure(0)


def apply(keras, attention, maps, constant=None):
    """Returns what an attention makes of maps, with every weight set to `constant` where it is given."""
    given = keras.Input(maps.shape[1:])
    model = keras.Model(given, attention(given))
    if constant is not None:
        model.set_weights([np.full(weight.shape, constant, np.float32) for weight in model.weights])
    return np.asarray(model(maps))


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def test_all_weights_zero_halve_twice(keras):
    maps = np.random.default_rng(0).random((2, 5, 4, 16), dtype=np.float32)
    np.testing.assert_allclose(apply(keras, attend, maps, constant=0), maps / 4, rtol=1e-6)


def test_channel_weight_by_hand(keras):
    # Channels of 1×2 places: (0, 2) and (4, 4); means 1 and 4, peaks 2 and 4. Both squeeze into one unit.
    maps = np.array([[[[0.0, 4.0], [2.0, 4.0]]]], np.float32)
    # unit: relu(1 + 4 + 1) = 6 of the means, relu(2 + 4 + 1) = 7 of the peaks; excited: 6 + 1 and 7 + 1
    expected = maps * sigmoid(7 + 8)
    np.testing.assert_allclose(apply(keras, attend_channels, maps, constant=1), expected, rtol=1e-6)


def test_spatial_weight_by_hand(keras):
    # One place, channels 1 and 3: mean 2, peak 3; of the 7×7 kernel only its centre falls on the map.
    maps = np.array([[[[1.0, 3.0]]]], np.float32)
    expected = maps * sigmoid(0.5 * (2 + 3))
    np.testing.assert_allclose(apply(keras, attend_places, maps, constant=0.5), expected, rtol=1e-6)


def test_attention_is_a_weight_in_0_to_1_and_keeps_the_shape(keras):
    maps = np.random.default_rng(0).random((3, 7, 7, 24), dtype=np.float32) + 0.1
    answer = apply(keras, attend, maps)
    assert answer.shape == maps.shape
    assert (answer > 0).all()
    assert (answer < maps).all()


def test_squeeze_is_an_eighth_of_the_channels(keras):
    given = keras.Input((2, 2, 32))
    model = keras.Model(given, attend(given))
    assert model.get_layer("cbam_squeeze").units == 4
    assert model.get_layer("cbam_spatial_weight").kernel_size == (7, 7)
