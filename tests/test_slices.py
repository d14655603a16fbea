"""Slices of a dataset: units, hash, reading."""

import hashlib

import numpy as np
import pytest

from tumorflow.errors import SliceError
from tumorflow.slices import hash_intensities, read_intensities, to_hounsfield


def test_hounsfield_units_are_slope_times_stored_plus_intercept():
    stored = np.array([[0, 1], [1024, 4095]], np.uint16)
    assert to_hounsfield(stored, 1, -1024).tolist() == [[-1024, -1023], [0, 3071]]
    assert to_hounsfield(stored, 0.5, -1000.25).tolist() == [[-1000, -1000], [-488, 1047]]
    assert to_hounsfield(stored, 1, -1024).dtype == np.int16


def test_hounsfield_units_stay_in_range():
    stored = np.array([[0, 65535]], np.uint16)
    assert to_hounsfield(stored, 1, 0).tolist() == [[0, 32767]]
    assert to_hounsfield(stored, 10, -100_000).tolist() == [[-32768, 32767]]


def test_the_content_hash_covers_shape_and_pixels_whatever_the_layout():
    pixels = np.array([[1, 2, 3], [4, 5, 6]], np.int16)
    expected = hashlib.sha256(
        (2).to_bytes(8, "little") + (3).to_bytes(8, "little") + bytes([1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0])
    ).hexdigest()
    assert hash_intensities(pixels) == expected
    assert hash_intensities(np.asfortranarray(pixels)) == expected
    assert hash_intensities(pixels.astype(">i2")) == expected
    assert hash_intensities(pixels.reshape(3, 2)) != expected
    assert hash_intensities(pixels.astype(np.uint8)) != expected


@pytest.mark.parametrize("name", ["a.png", "a.dcm"])
def test_what_cannot_be_decoded_is_one_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(SliceError) as error:
        read_intensities(tmp_path / name)
    assert error.value.rule == "unreadable_slice"
