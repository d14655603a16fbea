"""Arrays on disk, row by row: .npy files written as a stream and read by position.

Neither way holds a file in memory, and nothing is mapped: mapped pages would count as the process's memory.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SourceError

Rows = npt.NDArray[Any]


@contextmanager
def written_rows(
    path: Path, rows: int, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> Iterator[Callable[[Rows], None]]:
    """Yields a function that appends one row of `shape` and `dtype` to the .npy file at `path`.

    Raises:
        ValueError: a row has another shape or type, or there were fewer or more than `rows`.
    """
    kind, appended = np.dtype(dtype), 0
    with path.open("wb") as file:
        header = {"descr": kind.str, "fortran_order": False, "shape": (rows, *shape)}
        np.lib.format.write_array_header_1_0(file, header)

        def append(row: Rows) -> None:
            nonlocal appended
            if row.shape != shape or row.dtype != kind:
                raise ValueError(f"a row is {shape} of {kind}, not {row.shape} of {row.dtype}")
            file.write(np.ascontiguousarray(row).data)
            appended += 1

        yield append
    if appended != rows:
        raise ValueError(f"{rows} rows are needed, not {appended}")


@dataclass(frozen=True)
class _RowFile:
    file: BinaryIO
    header_bytes: int
    first: int
    stop: int


@dataclass(frozen=True)
class StoredRows:
    """The rows of .npy files of one kind, one file after the other, numbered through."""

    files: Sequence[_RowFile]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.files[-1].stop if self.files else 0

    def read(self, start: int, stop: int) -> Rows:
        """Returns rows `start` to `stop`, from as many files as they lie in: (stop − start, *shape)."""
        size = self.dtype.itemsize * int(np.prod(self.shape))
        pieces = []
        for rows in self.files:
            low, high = max(start, rows.first), min(stop, rows.stop)
            if low < high:
                place = rows.header_bytes + (low - rows.first) * size
                pieces.append(os.pread(rows.file.fileno(), (high - low) * size, place))
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return np.frombuffer(content, dtype=self.dtype).reshape(-1, *self.shape)


@contextmanager
def opened_rows(paths: Sequence[Path]) -> Iterator[StoredRows]:
    """Yields the rows of the .npy files at `paths`.

    Raises:
        SourceError: a file is missing or damaged, or its rows are unlike those of the others.
    """
    with ExitStack() as stack:
        files: list[_RowFile] = []
        kinds = set()
        for path in paths:
            try:
                file = stack.enter_context(path.open("rb"))
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError("another version of the format")
                shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file)
                size = dtype.itemsize * int(np.prod(shape))
                if in_columns or os.fstat(file.fileno()).st_size != file.tell() + size:
                    raise ValueError("another size than the header states")
            except (OSError, ValueError) as error:
                raise SourceError(
                    f"A file of rows is whole. Received: {type(error).__name__} for '{path.name}'. "
                    "Run the step that writes it again."
                ) from error
            first = files[-1].stop if files else 0
            files.append(_RowFile(file, file.tell(), first, first + shape[0]))
            kinds.add((shape[1:], dtype))
        if len(kinds) != 1:
            raise SourceError(
                f"Rows that are read together have one shape and type. Received: {len(kinds)} kinds. "
                "Run the steps that write them again."
            )
        ((shape, dtype),) = kinds
        yield StoredRows(files, shape, dtype)
