"""The locked test split and what the model says about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SourceError
from tumorflow.metrics import Floats, Integers
from tumorflow.progress import track

if TYPE_CHECKING:
    import pandas as pd

BATCH_SLICES = 32


@dataclass(frozen=True)
class TestSplit:
    """The test slices in the order of their content, which does not depend on the pseudonym key."""

    __test__ = False  # the name is the field's own, pytest must not collect it

    table: "pd.DataFrame"
    """n rows of `index.parquet`."""
    truth: Integers
    """(n,) label index."""
    groups: Integers
    """(n,) number of the group, by first appearance."""


def read_index(tensors: Path) -> "pd.DataFrame":
    """Returns `index.parquet` of all splits.

    Raises:
        SourceError: it cannot be read.
    """
    import pandas as pd

    try:
        return pd.read_parquet(tensors / "index.parquet")
    except (OSError, ValueError) as error:
        raise SourceError(
            "The tensors hold a readable index.parquet. "
            f"Received: {type(error).__name__} for {tensors}. Run preprocessing again."
        ) from error


def select_test(index: "pd.DataFrame") -> TestSplit:
    """Returns the test split of the index."""
    import pandas as pd

    order = ["content_hash", "label_index", "shard", "row"]
    table = index[index["split"] == "test"].sort_values(order, kind="stable", ignore_index=True)
    groups = pd.factorize(table["group"])[0].astype(np.int64)
    return TestSplit(table, table["label_index"].to_numpy(dtype=np.int64), groups)


def read_slices(tensors: Path, table: "pd.DataFrame") -> npt.NDArray[np.uint8]:
    """Returns (n, height, width, 3) uint8: the slices of the table's rows, in its order.

    Raises:
        SourceError: a shard is missing or too short.
    """
    try:
        shards = {name: np.load(tensors / "shards" / name, mmap_mode="r") for name in set(table["shard"])}
        return np.stack([shards[name][row] for name, row in zip(table["shard"], table["row"], strict=True)])
    except (OSError, ValueError, IndexError) as error:
        raise SourceError(
            "Every row of index.parquet points to a slice in a shard. "
            f"Received: {type(error).__name__} for {tensors}. Run preprocessing again."
        ) from error


def load_model(keras: Any, model: Path, classes: Sequence[str], size_px: int) -> Any:
    """Returns the Keras model, for inference only.

    Raises:
        SourceError: it cannot be loaded, does not take the slices, or does not give one probability a class.
    """
    path = model / "model.keras"
    try:
        loaded = keras.saving.load_model(path, compile=False, safe_mode=True)  # no code from the file
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(
            f"The model is a loadable Keras file. Received: {type(error).__name__} for {path}. "
            "Run training again."
        ) from error
    taken, given = tuple(loaded.input_shape[1:]), tuple(loaded.output_shape[1:])
    if taken != (size_px, size_px, 3) or given != (len(classes),):
        raise SourceError(
            f"The model takes ({size_px}, {size_px}, 3) and gives ({len(classes)},), as the tensors ask. "
            f"Received: {taken} and {given} from {path}. Run training on these tensors."
        )
    return loaded


def predict(model: Any, tensors: Path, table: "pd.DataFrame", classes: int) -> Floats:
    """Returns (n, classes) float64: the model's probabilities in the order of the table.

    Slices stream from the shards, batch by batch.
    """
    probabilities = np.empty((len(table), classes))
    batches = list(by_shard(table))
    for rows in track(batches, len(batches), "predict", "batches"):
        batch = read_slices(tensors, table.iloc[rows]).astype(np.float32)
        probabilities[rows] = np.asarray(model.predict_on_batch(batch), dtype=np.float64)
    return probabilities


def by_shard(table: "pd.DataFrame") -> Iterator[Integers]:
    """Yields batches of positions in the table, in the order in which the slices lie in the shards."""
    order = table.reset_index(drop=True).sort_values(["shard", "row"]).index.to_numpy(dtype=np.int64)
    for start in range(0, len(order), BATCH_SLICES):
        yield order[start : start + BATCH_SLICES]


def settle(probabilities: Floats) -> tuple[Floats, int]:
    """Returns usable probabilities, and for how many slices the model gave none.

    A model that diverged answers NaN; such rows become uniform, so that it can be measured and rejected.
    """
    finite = np.isfinite(probabilities.sum(axis=1, keepdims=True))
    settled = np.where(finite, probabilities, 1 / probabilities.shape[1])
    return settled, int(len(finite) - finite.sum())


def pool_patients(truth: Integers, probabilities: Floats, groups: Integers) -> tuple[Integers, Floats, int]:
    """Returns each patient's label, mean probability over the slices, and how many patients were left out.

    Left out is a patient whose slices have different labels: there is no one right answer.
    """
    count = groups.max(initial=-1) + 1
    slices = np.bincount(groups, minlength=count)[:, np.newaxis]
    mean = np.zeros((count, probabilities.shape[1]))
    np.add.at(mean, groups, probabilities)
    lowest, highest = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    np.minimum.at(lowest, groups, truth)
    np.maximum.at(highest, groups, truth)
    agreed = np.flatnonzero(lowest == highest)
    return highest[agreed], (mean / slices)[agreed], int(count - len(agreed))
