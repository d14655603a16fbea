"""Reading a `tensors` artifact split by split, without holding it in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.errors import DataError, ParameterError, SourceError
from tumorflow.files import read_json


@dataclass(frozen=True)
class Split:
    """The slices of one split, in the order of their content, so that no pseudonym decides anything."""

    folder: Path
    shards: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    """Class index of each slice."""
    keys: tuple[int, ...]
    """A number of each slice's content, to draw its augmented views."""

    def __len__(self) -> int:
        """Returns how many slices there are."""
        return len(self.shards)

    def read(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Returns the slices at `positions`, in that order: (slices, height, width, 3), uint8, 0–255."""
        wanted = [(self.shards[position], place) for place, position in enumerate(positions)]
        images: npt.NDArray[np.uint8] | None = None
        for shard in sorted({name for name, _ in wanted}):
            # mapped, and unmapped at once: mapped pages count as the process's memory
            content = np.load(self.folder / shard, mmap_mode="r", allow_pickle=False)
            places = [place for name, place in wanted if name == shard]
            if images is None:
                images = np.empty((len(positions), *content.shape[1:]), np.uint8)
            images[places] = content[self.rows[positions[places]]]
        if images is None:
            raise ValueError("positions hold at least one slice")
        return images


def join(first: Split, second: Split) -> Split:
    """Returns the slices of two splits of one folder as one, those of `first` before those of `second`."""
    return Split(
        folder=first.folder,
        shards=first.shards + second.shards,
        rows=np.concatenate([first.rows, second.rows]),
        labels=np.concatenate([first.labels, second.labels]),
        keys=first.keys + second.keys,
    )


@dataclass(frozen=True)
class Tensors:
    """What training reads of the artifact; the test split stays closed."""

    training: Split
    validation: Split
    image_size_px: int
    air: tuple[int, int, int]


def read_tensors(folder: Path, classes: tuple[str, ...]) -> Tensors:
    """Returns the training and validation splits of a `tensors` folder.

    Raises:
        DataError: a split has no slice.
        ParameterError: the folder was made with other classes.
        SourceError: a file of the artifact is missing or unreadable.
    """
    import pandas as pd

    facts: dict[str, Any] = read_json(folder / "preprocessing.json")
    if tuple(facts["classes"]) != classes:
        raise ParameterError(
            f"Parameter 'classes' names the classes of the tensors, {facts['classes']}, in that order. "
            f"Received: {list(classes)}. Run preprocessing again."
        )
    try:
        index = pd.read_parquet(
            folder / "index.parquet", columns=["shard", "row", "split", "label_index", "content_hash"]
        )
    except (OSError, ValueError) as error:
        raise SourceError(
            f"An artifact holds a readable table at 'index.parquet'. Received: {type(error).__name__} "
            f"for {folder}. Run preprocessing again."
        ) from error
    index = index.sort_values(["content_hash", "label_index"], kind="stable")
    red, green, blue = (int(value) for value in facts["air"])
    return Tensors(
        training=_select(folder, index, "train"),
        validation=_select(folder, index, "validation"),
        image_size_px=int(facts["image_size_px"]),
        air=(red, green, blue),
    )


def _select(folder: Path, index: Any, split: str) -> Split:
    rows = index[index["split"] == split]
    if rows.empty:
        raise DataError(
            f"Every split holds slices. Received: none in '{split}'. Add patients, or change "
            "preprocess.validation_fraction and preprocess.test_fraction."
        )
    return Split(
        folder=folder / "shards",
        shards=tuple(rows["shard"]),
        rows=rows["row"].to_numpy(np.int64),
        labels=rows["label_index"].to_numpy(np.int64),
        keys=tuple(int(content[:15], 16) for content in rows["content_hash"]),
    )
