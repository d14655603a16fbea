import numpy as np
import pytest

from tumorflow.explanation import Head, describe_features, head_of_arrays


def test_a_heat_map_by_hand():
    head = Head(
        [
            (np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.array([0.0, -9.0], np.float32)),
            (np.array([[2.0, 0.0], [5.0, 0.0]], np.float32), np.zeros(2, np.float32)),
        ]
    )
    feature_map = np.zeros((2, 2, 2), np.float32)
    feature_map[0, 0, 0] = 4  # the hidden unit of channel 1 is dead: only channel 0 counts
    feature_map[1, 1, 1] = 8
    np.testing.assert_allclose(head.explain(feature_map, 0, 2, 2), [[1, 0], [0, 0]])
    assert head.explain(feature_map, 1, 2, 2).max() == 0, "nothing speaks for the other class"


def test_a_head_survives_its_file():
    head = Head([(np.ones((3, 2), np.float32), np.zeros(2, np.float32))])
    again = head_of_arrays({**head.as_arrays(), "feature_mean": np.zeros(3)})
    assert len(again.layers) == 1
    np.testing.assert_array_equal(again.layers[0][0], head.layers[0][0])
    assert head_of_arrays({}) is None


def test_numpy_sees_what_tensorflow_sees():
    from tumorflow.evaluation import gradcam
    from tumorflow.export import conversion
    from tumorflow.litert import Classifier
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=4)
    pixels = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(6, 5, strides=3)(keras.layers.Rescaling(1 / 255)(pixels))
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(maps)
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(5, activation="relu")(pooled))
    network = keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(hidden))
    image = np.random.default_rng(3).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    answer = Classifier(conversion.convert(conversion.expose_feature_map(network), "float32")).answer(image)
    heat = conversion.read_head(network).explain(
        answer.feature_map, int(answer.probabilities.argmax()), 32, 32
    )
    assert heat.max() > 0
    np.testing.assert_allclose(heat, gradcam.explain(network, image[np.newaxis])[0], atol=1e-4)


def test_what_is_far_from_the_training_slices_is_beyond_the_limit():
    random = np.random.default_rng(2)
    training, validation = random.normal(3, 1, (200, 20)), random.normal(3, 1, (100, 20))
    spread = describe_features(training.astype(np.float32), validation.astype(np.float32))
    assert (spread.distance(validation) <= spread.limit).mean() == pytest.approx(0.99, abs=0.011)
    assert spread.distance(random.normal(9, 1, (10, 20))).min() > spread.limit
