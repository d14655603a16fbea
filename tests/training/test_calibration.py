import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorflow.training.calibration import fit_temperature, soften


def test_the_temperature_by_hand():
    # 0.9 for what is right three times in four: log-odds ln 9 become ln 3, so that T = ln 9 / ln 3 = 2
    probabilities = np.tile([0.9, 0.1], (4, 1))
    assert fit_temperature(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(2.0, abs=1e-3)


def test_slices_that_are_all_right_leave_the_model_as_it_is():
    assert fit_temperature(np.array([[0.6, 0.4], [0.3, 0.7]]), np.array([0, 1])) == 1.0


def test_a_model_that_is_sure_and_wrong_stays_within_the_range():
    assert fit_temperature(np.tile([1.0, 0.0], (4, 1)), np.ones(4, np.int64)) == pytest.approx(10, rel=1e-3)


@given(seed=st.integers(0, 2**16), sharpness=st.floats(1.5, 6))
def test_a_model_made_too_sure_is_softened(seed, sharpness):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(400, 3))
    honest = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(3, p=row) for row in honest])
    sure = honest**sharpness / (honest**sharpness).sum(axis=1, keepdims=True)
    assert fit_temperature(sure, labels) == pytest.approx(sharpness, rel=0.5)


def test_a_softened_network_divides_its_scores():
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=1)
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    network.layers[-1].set_weights([np.eye(4, 3, dtype=np.float32), np.array([0.5, 0, 0], np.float32)])
    given_values = np.array([[2.0, -1.0, 0.5, 3.0]], np.float32)
    before = np.log(network.predict_on_batch(given_values)[0])
    soften(network, 2.0)
    after = np.log(network.predict_on_batch(given_values)[0])
    assert after[0] - after[1] == pytest.approx((before[0] - before[1]) / 2, abs=1e-5)
