import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorflow.errors import DataError
from tumorflow.training.balance import balance_weights, oversample


def test_weights_by_hand():
    # 8 slices, 2 classes: 8 / (2 · 6) and 8 / (2 · 2)
    weights = balance_weights(np.array([0] * 6 + [1] * 2), 2)
    np.testing.assert_allclose(weights, [2 / 3, 2.0])


@given(st.lists(st.integers(0, 2), min_size=1, max_size=50))
def test_each_class_weighs_the_same_in_sum(some):
    labels = np.array([0, 1, 2, *some])
    sums = balance_weights(labels, 3) * np.bincount(labels)
    np.testing.assert_allclose(sums, len(labels) / 3)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=50), st.integers(0, 1000))
def test_oversampling_keeps_every_row_and_levels_the_classes(some, seed):
    labels = np.array([0, 1, 2, *some])
    positions = oversample(labels, 3, np.random.default_rng(seed))
    assert set(positions) == set(range(len(labels)))
    assert set(np.bincount(labels[positions])) == {np.bincount(labels).max()}


@pytest.mark.parametrize(
    "balance", [balance_weights, lambda *given: oversample(*given, np.random.default_rng(0))]
)
def test_an_empty_class_is_told(balance):
    with pytest.raises(DataError, match=r"\[2, 0, 1\]"):
        balance(np.array([0, 0, 2]), 3)
