"""Shards: tensors written one slice at a time, so that memory does not grow with the cohort."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from tumorflow.tensors import CHANNELS, Tensor


def shard_place(position: int, shard_slices: int) -> tuple[str, int]:
    """Returns the shard's file name, and the row in it, of the slice at `position` of all."""
    shard, row = divmod(position, shard_slices)
    return f"shard-{shard:05}.npy", row


def write_shards(folder: Path, tensors: Iterable[Tensor], slices: int, shard_slices: int, size: int) -> None:
    """Writes tensors to shards in `folder`: uint8, (at most shard_slices, size, size, 3) each.

    Args:
        folder: created here.
        tensors: as many as `slices`.
        slices: how many.
        shard_slices: rows of a shard; the last may have fewer.
        size: edge of a tensor in pixels.

    Raises:
        ValueError: there are fewer or more tensors, or they have another size.
    """
    folder.mkdir()
    stream = iter(tensors)
    for start in range(0, slices, shard_slices):
        count = min(shard_slices, slices - start)
        name, _ = shard_place(start, shard_slices)
        # written as a stream: an array or memory map of the shard would all be in memory before it is full
        with (folder / name).open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, CHANNELS)}
            np.lib.format.write_array_header_1_0(file, header)
            written = sum(file.write(tensor.tobytes()) for tensor in islice(stream, count))
        if written != count * size * size * CHANNELS:
            raise ValueError(f"{slices} tensors of {size} × {size} × {CHANNELS} bytes are needed")
    if next(stream, None) is not None:
        raise ValueError(f"more than {slices} tensors")
