"""Pixels → tensor: hand-computed greys, bounds, order and geometry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tumorflow.errors import SliceError
from tumorflow.params import PreprocessParams, Window
from tumorflow.tensors import air_value, fit_square, to_tensor, window_table

LUNG = Window(window_center_hu=-600, window_width_hu=1500)
SOFT = Window(window_center_hu=40, window_width_hu=400)
BONE = Window(window_center_hu=300, window_width_hu=1500)
WINDOWS = (LUNG, SOFT, BONE)


def test_greys_are_those_of_dicom_linear_exact():
    image = np.array([[-2000, -600], [40, 3000]], dtype=np.int16)
    tensor = to_tensor(image, unit="HU", image_size_px=2, windows=WINDOWS)
    # lung: 0, 255/2, (640/1500 + .5) × 255 = 236.3, 255; soft: 0, 0, 127.5, 255; bone: 0, 0, 83.3, 255
    assert tensor[:, :, 0].tolist() == [[0, 128], [236, 255]]
    assert tensor[:, :, 1].tolist() == [[0, 0], [128, 255]]
    assert tensor[:, :, 2].tolist() == [[0, 0], [83, 255]]


def test_one_window_is_copied_to_three_channels():
    image = np.array([[-600]], dtype=np.int16)
    assert to_tensor(image, unit="HU", image_size_px=1, windows=(LUNG,)).tolist() == [[[128, 128, 128]]]


def test_display_grey_is_copied_to_three_channels_unchanged():
    image = np.array([[0, 7], [200, 255]], dtype=np.uint8)
    tensor = to_tensor(image, unit="display", image_size_px=2, windows=WINDOWS)
    assert np.array_equal(tensor, np.stack([image] * 3, axis=2))


def test_air_of_each_unit():
    # −1000 HU in the lung window: (−400 / 1500 + .5) × 255 = 59.5
    assert air_value("HU", WINDOWS) == (60, 0, 0)
    assert air_value("display", WINDOWS) == (0, 0, 0)


def test_resizing_averages_hounsfield_units_not_greys():
    image = np.array([[-1000, 1000], [-1000, 1000]], dtype=np.int16)
    tensor = to_tensor(image, unit="HU", image_size_px=1, windows=(SOFT,))
    assert tensor[0, 0, 0] == 102  # 0 HU: (−40 / 400 + .5) × 255, where the average of greys would be 128


def test_a_wide_slice_keeps_its_proportions_between_bands_of_air():
    tensor = to_tensor(np.full((4, 8), 40, dtype=np.int16), unit="HU", image_size_px=8, windows=(SOFT,))
    assert (tensor[2:6] == 128).all()
    assert (tensor[:2] == 0).all()
    assert (tensor[6:] == 0).all()


def test_a_large_slice_is_averaged_by_area():
    rng = np.random.default_rng(0)
    image = rng.integers(-1000, 1000, (512, 512), dtype=np.int16)
    blocks = image.reshape(128, 4, 128, 4).mean(axis=(1, 3))
    assert np.abs(fit_square(image, 128, air=-1000) - blocks).max() <= 1.5


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2, 3), np.int16), np.zeros((2, 2), np.float32), np.zeros((0, 2), np.int16)]
)
def test_what_is_no_slice_is_refused(image):
    with pytest.raises(SliceError, match="Received: shape"):
        to_tensor(image, unit="HU", image_size_px=2, windows=WINDOWS)


def test_the_table_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        window_table(((40.0, 400.0),))[0, 0] = 1


windows = st.builds(Window, window_center_hu=st.floats(-2000, 4000), window_width_hu=st.floats(1, 8000))


@given(windows)
def test_windowing_is_monotone_and_bounded(window):
    table = window_table(((window.window_center_hu, window.window_width_hu),))
    in_order = np.concatenate([table[2**15 :], table[: 2**15]]).astype(int)
    assert (np.diff(in_order, axis=0) >= 0).all()
    assert in_order[0, 0] == 0
    assert in_order[-1, 0] == 255


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.int16, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(-3000, 3000)),
    st.integers(1, 32),
    st.integers(0, 500),
)
def test_a_denser_slice_is_nowhere_darker(image, size, denser):
    windows = PreprocessParams().windows
    before = to_tensor(image, unit="HU", image_size_px=size, windows=windows)
    after = to_tensor(image + np.int16(denser), unit="HU", image_size_px=size, windows=windows)
    assert before.shape == (size, size, 3)
    assert before.dtype == np.uint8
    assert (after >= before).all()


@settings(deadline=None, max_examples=30)
@given(arrays(np.int16, (5, 9), elements=st.integers(-2000, 2000)))
def test_the_slice_is_left_as_it_was(image):
    copy = image.copy()
    to_tensor(image, unit="HU", image_size_px=4, windows=WINDOWS)
    assert np.array_equal(image, copy)
