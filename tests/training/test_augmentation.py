import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorflow.training.augmentation import Augmenter, Ranges, augment, draw_affine

AIR = (10, 20, 30)


def ramp(height=6, width=8):
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def test_zero_ranges_are_the_identity():
    np.testing.assert_array_equal(augment(ramp(), Ranges(), AIR, (1, 2, 3)), ramp())


def test_what_comes_in_from_outside_is_air_in_each_channel():
    image = np.full((20, 20, 3), 200, np.uint8)
    ranges = Ranges(shift_fraction=0.5)
    views = [augment(image, ranges, AIR, (0, number)) for number in range(8)]
    colours = np.concatenate([view.reshape(-1, 3) for view in views])
    assert colours.min(axis=0).tolist() == list(AIR)
    assert colours.max() == 200
    edges = [view for view in views if tuple(view[0, 0]) == AIR]
    assert edges


def test_same_key_same_view_other_key_other_view():
    ranges = Ranges(15, 0.1, 0.1, 0.1)
    first = augment(ramp(), ranges, AIR, (7, 1, 1))
    np.testing.assert_array_equal(first, augment(ramp(), ranges, AIR, (7, 1, 1)))
    assert not np.array_equal(first, augment(ramp(), ranges, AIR, (7, 1, 2)))


def test_flip_mirrors_about_one_view_in_two_and_nothing_else():
    flipped = [
        not np.array_equal(view, ramp())
        for view in (augment(ramp(), Ranges(horizontal_flip=True), AIR, (number,)) for number in range(40))
    ]
    assert 10 <= sum(flipped) <= 30
    mirrored = augment(ramp(), Ranges(horizontal_flip=True), AIR, (flipped.index(True),))
    np.testing.assert_array_equal(mirrored, ramp()[:, ::-1])


def test_image_is_not_changed():
    image = ramp()
    augment(image, Ranges(90, 0.5, 0.5, 0.5, True), AIR, (1,))
    np.testing.assert_array_equal(image, ramp())


@given(seed=st.integers(0, 2**32 - 1))
def test_amounts_stay_in_their_ranges(seed):
    generator = np.random.default_rng(seed)
    zoom = draw_affine(Ranges(zoom_fraction=0.1), 224, 224, generator)
    assert 0.9 <= zoom[0, 0] <= 1.1
    assert 0.9 <= zoom[1, 1] <= 1.1
    shift = draw_affine(Ranges(shift_fraction=0.1), 100, 200, generator)
    assert abs(shift[0, 2]) <= 20
    assert abs(shift[1, 2]) <= 10
    rotation = draw_affine(Ranges(rotation_degrees=15), 224, 224, generator)
    assert rotation[0, 0] >= np.cos(np.deg2rad(15)) - 1e-12
    centre = rotation @ [111.5, 111.5, 1]
    assert centre[:2] == pytest.approx([111.5, 111.5])


def test_views_of_a_slice_follow_seed_content_and_number():
    augmenter = Augmenter(Ranges(rotation_degrees=15), AIR, seed=7)
    expected = augment(ramp(), Ranges(rotation_degrees=15), AIR, (7, 99, 3))
    np.testing.assert_array_equal(augmenter(ramp(), 99, 3), expected)
