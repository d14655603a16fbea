"""Rows: written as a stream, read by position from any number of files."""

import itertools

import numpy as np
import pytest

from tumorflow.errors import SourceError
from tumorflow.preprocessing.rows import opened_rows, written_rows


def write(path, values):
    with written_rows(path, len(values), values.shape[1:], values.dtype) as append:
        for row in values:
            append(row)
    return path


def test_numpy_reads_what_was_written(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    assert np.array_equal(np.load(write(tmp_path / "rows.npy", values)), values)


def test_rows_are_numbered_through_all_files_even_empty_ones(tmp_path):
    values = np.arange(14, dtype=np.float16).reshape(7, 2)
    bounds = [0, 0, 3, 3, 4, 7, 7]
    paths = [
        write(tmp_path / f"{at}.npy", values[low:high])
        for at, (low, high) in enumerate(itertools.pairwise(bounds))
    ]
    with opened_rows(paths) as stored:
        assert len(stored) == 7
        for start in range(8):
            for stop in range(start, 8):
                assert np.array_equal(stored.read(start, stop), values[start:stop])


def test_the_number_and_kind_of_rows_are_held_to(tmp_path):
    row = np.zeros(2, np.uint8)
    few = written_rows(tmp_path / "few.npy", 3, (2,), np.uint8)
    few = written_rows(tmp_path / "few.npy", 3, (2,), np.uint8)
    with pytest.raises(ValueError, match="3 rows are needed, not 1"), few as append:
        append(row)
    other = written_rows(tmp_path / "other.npy", 1, (2,), np.float16)
    with pytest.raises(ValueError, match=r"not \(2,\) of uint8"), other as append:
        append(row)


def test_damaged_missing_and_mixed_files_are_refused(tmp_path):
    whole = write(tmp_path / "whole.npy", np.zeros((2, 2), np.uint8))
    cut = tmp_path / "cut.npy"
    cut.write_bytes(whole.read_bytes()[:-1])
    noise = tmp_path / "noise.npy"
    noise.write_bytes(b"noise")
    for path in (cut, noise, tmp_path / "nowhere.npy"):
        with pytest.raises(SourceError, match=f"for '{path.name}'"), opened_rows([whole, path]):
            pass
    other = write(tmp_path / "other.npy", np.zeros((2, 3), np.uint8))
    with pytest.raises(SourceError, match="2 kinds"), opened_rows([whole, other]):
        pass
