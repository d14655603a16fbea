"""Features of a frozen backbone, computed once and kept in a file: no epoch runs the backbone again."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.progress import track
from tumorflow.training.augmentation import Augmenter
from tumorflow.training.splits import Split

BATCH_SLICES = 32

Features = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]


class FeatureFile:
    """Rows of float32 numbers in a file; only what is asked for is in memory."""

    def __init__(self, path: Path, row_shape: tuple[int, ...]) -> None:
        self.path = path
        self.row_shape = row_shape
        self.rows = 0

    def append(self, features: Features) -> None:
        """Writes rows, (rows, *row_shape), after those that are there."""
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(features, dtype=np.float32).tobytes())
        self.rows += len(features)

    def read(self, positions: npt.NDArray[np.int64]) -> Features:
        """Returns the rows at `positions`, in that order: (positions, *row_shape), float32."""
        numbers = int(np.prod(self.row_shape))
        features = np.empty((len(positions), numbers), np.float32)
        with self.path.open("rb", buffering=0) as file:
            for place, position in enumerate(positions):
                file.seek(int(position) * numbers * features.itemsize)
                file.readinto(features[place].data)
        return features.reshape((len(positions), *self.row_shape))


def view_images(
    split: Split, positions: npt.NDArray[np.int64], views: npt.NDArray[np.int64], augmenter: Augmenter
) -> Images:
    """Returns one view of each slice at `positions`; view 0 is the slice itself, any other augmented."""
    images = split.read(positions)
    for place, (position, view) in enumerate(zip(positions, views, strict=True)):
        if view:
            images[place] = augmenter(images[place], split.keys[position], int(view))
    return images


def compute_features(
    path: Path, split: Split, extractor: Any, augmenter: Augmenter, views: int
) -> FeatureFile:
    """Returns the features of a split in a file at `path`: row `view · slices + position`.

    Args:
        path: file to write.
        split: the slices.
        extractor: a frozen Keras model, images 0–255 to features.
        augmenter: draws the views.
        views: augmented views of each slice, beside the slice itself.
    """
    features = FeatureFile(path, tuple(extractor.output_shape[1:]))
    positions = np.tile(np.arange(len(split)), views + 1)
    numbers = np.repeat(np.arange(views + 1), len(split))
    starts = range(0, len(positions), BATCH_SLICES)
    for start in track(starts, len(starts), "features", "batches"):
        batch = slice(start, start + BATCH_SLICES)
        images = view_images(split, positions[batch], numbers[batch], augmenter)
        features.append(extractor.predict_on_batch(images.astype(np.float32)))
    return features
