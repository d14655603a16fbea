import numpy as np
import pytest

from tumorflow import explanation
from tumorflow.evaluation import gradcam

# Keras 3.15 converts TensorFlow variables without the copy keyword that NumPy 2 asks for
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_weighs_channels_by_their_mean_gradient():
    maps = np.zeros((2, 2, 2), np.float32)
    maps[0, 0], maps[1, 1], maps[0, 1] = (4, 0), (0, 4), (2, 1)
    gradients = np.broadcast_to(np.array([0.5, -1.0], np.float32), (2, 2, 2))
    # .5 · first − 1 · second: 2, 0, −4 → 0, and 0; the greatest becomes 1
    np.testing.assert_array_equal(explanation.weigh(maps, gradients, 2, 2), [[1, 0], [0, 0]])


@pytest.mark.parametrize("gradient", [0.0, -1.0, np.nan])
def test_a_map_with_nothing_positive_is_flat_zero(gradient):
    heat = explanation.weigh(np.ones((2, 2, 3), np.float32), np.full((2, 2, 3), gradient, np.float32), 8, 6)
    np.testing.assert_array_equal(heat, np.zeros((8, 6)))


def test_heat_is_within_bounds_at_the_size_of_the_image():
    generator = np.random.default_rng(0)
    maps, gradients = generator.normal(size=(2, 4, 5, 8)).astype(np.float32)
    heat = explanation.weigh(maps, gradients, 40, 30)
    assert heat.shape == (40, 30)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert 0 < heat.max() <= 1


def test_looks_where_the_class_is(network):
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 4:12, 18:28, 1] = 255  # bright in the channel of the second class
    heat = gradcam.explain(network, image)[0]
    assert heat[4:12, 18:28].mean() > 0.7
    assert heat[20:, :12].max() < 0.05


def test_finds_the_last_pooling_behind_attention(network):
    import keras
    from keras import layers

    images = keras.Input((16, 16, 3))
    maps = layers.Conv2D(4, 3, padding="same")(images)
    weight = layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling2D()(maps))  # squeeze and excite
    maps = layers.Multiply(name="attended")([maps, layers.Dense(4)(weight)])
    pooled = layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(images, layers.Dense(2, activation="softmax")(pooled))
    assert explanation.find_feature_map(model) is model.get_layer("attended").output
    assert gradcam.explain(model, np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 16, 16)


def test_finds_the_map_of_a_backbone_that_is_one_layer(network):
    import keras
    from keras import layers

    images = keras.Input((16, 16, 3))
    backbone = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(4, 3, strides=2)], name="backbone")
    pooled = layers.GlobalAveragePooling2D()(backbone(images))
    model = keras.Model(images, layers.Dense(2, activation="softmax")(pooled))
    assert gradcam.explain(model, np.full((1, 16, 16, 3), 9, np.uint8)).shape == (1, 16, 16)


def test_a_network_without_maps_is_not_explained(network):
    import keras
    from keras import layers

    images = keras.Input((4,))
    model = keras.Model(images, layers.Dense(2, activation="softmax")(images))
    assert gradcam.explain(model, np.zeros((1, 4), np.uint8)) is None


def test_chooses_right_and_wrong_of_each_class_surest_first():
    truth = np.array([0, 0, 0, 1, 1])
    answers = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6], [0.95, 0.05]])
    groups = np.arange(5)
    # right: 0 of class 0, 3 of class 1; wrong: 2 of class 0, 4 of class 1; then the next round
    np.testing.assert_array_equal(gradcam.choose_slices(truth, answers, groups, 9), [0, 3, 2, 4, 1])
    np.testing.assert_array_equal(gradcam.choose_slices(truth, answers, groups, 2), [0, 3])
    np.testing.assert_array_equal(
        gradcam.choose_slices(truth, answers, np.array([0, 0, 0, 1, 2]), 9), [0, 3, 4]
    )
    assert len(gradcam.choose_slices(truth, answers, groups, 0)) == 0
