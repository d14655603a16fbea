"""The slices that export looks at: those of the locked test set, and representative ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tumorflow.export import parity
from tumorflow.params import ExportParams

if TYPE_CHECKING:
    import pandas as pd


class ShardSlices:
    """Slices read from their shards one at a time, in the order of `rows`."""

    def __init__(self, tensors: Path, rows: "pd.DataFrame") -> None:
        self._tensors = tensors
        self._places = list(zip(rows["shard"], rows["row"], strict=True))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, position: int) -> npt.NDArray[np.uint8]:
        shard, row = self._places[position]
        return np.array(np.load(self._tensors / "shards" / shard, mmap_mode="r")[row])

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        return (self[position] for position in range(len(self)))


def refer(
    rows: "pd.DataFrame", probabilities: npt.NDArray[np.float64], params: ExportParams
) -> parity.Reference:
    """Returns Keras' probabilities of slices with their `label` and `group`."""
    import pandas as pd

    truth = rows["label"].map({name: label for label, name in enumerate(params.classes)})
    return parity.Reference(
        probabilities,
        np.asarray(truth, np.int64),
        np.asarray(pd.factorize(rows["group"])[0], np.int64),
    )


def read_test_slices(
    tensors: Path, evaluation: Path, params: ExportParams
) -> tuple[parity.Reference, ShardSlices]:
    """Returns Keras' predictions of the test set, and its slices in the same order."""
    import pandas as pd

    predictions = pd.read_parquet(evaluation / "predictions.parquet")
    index = pd.read_parquet(
        tensors / "index.parquet", columns=["slice_id", "shard", "row", "split", "label", "group"]
    )
    index = index[index["split"] == "test"]
    rows = predictions[["slice_id"]].merge(index, on="slice_id", how="left", validate="one_to_one")
    probabilities = predictions[[f"probability_{name}" for name in params.classes]].to_numpy(np.float64)
    return refer(rows, probabilities, params), ShardSlices(tensors, rows)


def read_index(tensors: Path) -> "pd.DataFrame":
    """Returns where each slice lies, its class, group, split and thickness."""
    import pandas as pd

    columns = ["shard", "row", "split", "label", "group", "slice_thickness_mm"]
    return pd.read_parquet(tensors / "index.parquet", columns=columns)


def draw_representative(index: "pd.DataFrame", split: str, count: int) -> "pd.DataFrame":
    """Returns at most `count` slices of a split: each class in turn, and in it each group in turn.

    The rows of `index` lie in random order, so that the first slice of a group is any of its slices.
    """
    rows = index[index["split"] == split].copy()
    rows["of_group"] = rows.groupby(["label", "group"]).cumcount()
    rows = rows.sort_values("of_group", kind="stable")
    rows["of_class"] = rows.groupby("label").cumcount()
    return rows.sort_values(["of_class", "label"], kind="stable").head(count)
