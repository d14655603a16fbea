import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss

from tumorflow.errors import DataError
from tumorflow.tensorflow_runtime import configure
from tumorflow.tracker import Untracked
from tumorflow.training.batches import draw_rows
from tumorflow.training.fitting import Epoch, Lesson, Schedule, best_epoch, fit, measure, refit


@pytest.fixture
def network():
    keras = configure(0)
    features = keras.Input((2,))
    return keras.Model(features, keras.layers.Dense(2, activation="softmax")(features))


POINTS = np.array([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0], [2.0, 0.0]], np.float32)
LABELS = np.array([0, 0, 1, 1])


def lesson(training=(POINTS, LABELS), validation=(POINTS, LABELS), class_weights=(1.0, 1.0)):
    return Lesson(lambda _: iter([training]), lambda: iter([validation]), np.array(class_weights))


class Recorder(Untracked):
    def __init__(self):
        self.epochs = {}

    def log_metrics(self, metrics, epoch=None):
        self.epochs[epoch] = metrics


def test_measures_by_hand():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32)
    loss, accuracy, macro_f1 = measure(probabilities, np.array([0, 1, 1]))
    assert loss == pytest.approx(-(np.log(0.5) + np.log(0.25) + np.log(0.8)) / 3)
    assert accuracy == pytest.approx(2 / 3)
    # class 0: 1 hit of 2 answers and 1 slice; class 1: 1 hit of 1 answer and 2 slices; class 2: neither
    assert macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(0, 1000))
def test_measures_are_scikit_learns(labels, seed):
    probabilities = np.random.default_rng(seed).dirichlet([1, 1, 1], len(labels)).astype(np.float32)
    loss, _, macro_f1 = measure(probabilities, np.array(labels))
    expected = f1_score(labels, probabilities.argmax(1), average="macro", labels=[0, 1, 2], zero_division=0)
    assert macro_f1 == pytest.approx(expected)
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    assert loss == pytest.approx(log_loss(labels, exact, labels=[0, 1, 2]), rel=1e-4)


def test_an_impossible_answer_costs_much_but_no_infinity():
    assert np.isfinite(measure(np.array([[1.0, 0.0]], np.float32), np.array([1]))[0])


def test_it_learns_and_tells_each_epoch(network):
    recorder = Recorder()
    history = fit(network, lesson(), Schedule(30, 30, 0.1), recorder)
    assert [epoch.epoch for epoch in history] == list(recorder.epochs) == list(range(1, 31))
    assert history[-1].val_accuracy == history[-1].val_macro_f1 == history[-1].accuracy == 1.0
    assert history[-1].val_loss < history[0].val_loss
    assert recorder.epochs[3] == {name: value for name, value in vars(history[2]).items() if name != "epoch"}


def test_it_stops_after_patience_and_keeps_the_best_epoch(network):
    # validation contradicts training: the first epoch is the best, and every later one is worse
    contrary = lesson(validation=(POINTS, 1 - LABELS))
    history = fit(network, contrary, Schedule(50, 3, 0.1), Untracked())
    assert best_epoch(history).epoch == 1
    assert len(history) == 4
    loss, _, _ = measure(np.asarray(network(POINTS)), 1 - LABELS)
    assert loss == pytest.approx(history[0].val_loss, rel=1e-5)


def test_more_epochs_count_on_and_never_make_it_worse(network):
    first = fit(network, lesson(), Schedule(5, 5, 0.1), Untracked())
    before = network.get_weights()
    # learning the contrary only harms
    second = fit(network, lesson(training=(POINTS, 1 - LABELS)), Schedule(5, 2, 0.1), Untracked(), first)
    assert [epoch.epoch for epoch in second] == [1, 2, 3, 4, 5, 6, 7]
    for kept, former in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(kept, former)


def test_a_refit_runs_its_epochs_on_what_it_is_given(network):
    refit(network, lesson(), 30, 0.1)
    assert (np.asarray(network(POINTS)).argmax(axis=1) == LABELS).all()


def test_class_weights_weigh_the_training_loss_alone(network):
    light = fit(network, lesson(), Schedule(1, 1, 1e-9), Untracked())[0]
    heavy = fit(network, lesson(class_weights=(3.0, 3.0)), Schedule(1, 1, 1e-9), Untracked())[0]
    assert heavy.loss == pytest.approx(3 * light.loss, rel=1e-5)
    assert heavy.val_loss == pytest.approx(light.val_loss, rel=1e-5)


def test_a_batch_counts_by_its_rows(network):
    whole = fit(network, lesson(), Schedule(1, 1, 1e-9), Untracked())[0]
    parts = [(POINTS[:3], LABELS[:3]), (POINTS[3:], LABELS[3:])]
    split = Lesson(lambda _: iter(parts), lambda: iter(parts), np.ones(2))
    parted = fit(network, split, Schedule(1, 1, 1e-9), Untracked())[0]
    assert parted.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parted.val_loss == pytest.approx(whole.val_loss, rel=1e-5)


def test_a_loss_that_is_no_number_stops(network):
    broken = lesson(training=(POINTS * np.float32(np.nan), LABELS))
    with pytest.raises(DataError, match=r"epoch 1.*learning_rate"):
        fit(network, broken, Schedule(5, 5, 0.1), Untracked())


def test_best_is_the_first_of_equals():
    epochs = tuple(Epoch(number, 0, 0, loss, 0, 0, 0.1) for number, loss in ((1, 3.0), (2, 1.0), (3, 1.0)))
    assert best_epoch(epochs).epoch == 2


@given(st.integers(0, 100), st.integers(1, 9))
def test_an_epoch_shows_every_row_once(seed, epoch):
    labels = np.arange(20) % 3
    rows = draw_rows(labels, epoch, seed, oversampled=False)
    assert sorted(rows) == list(range(20))
    np.testing.assert_array_equal(rows, draw_rows(labels, epoch, seed, oversampled=False))


def test_an_oversampled_epoch_has_equal_classes():
    labels = np.array([0] * 7 + [1] * 2 + [2] * 3)
    rows = draw_rows(labels, 1, 0, oversampled=True)
    assert np.bincount(labels[rows]).tolist() == [7, 7, 7]
