"""What a TFLite file says of itself, so that whoever runs it needs nothing else."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow import __version__
from tumorflow.explanation import FeatureDistribution, Head, describe_features, find_feature_map
from tumorflow.model_file import ModelFile
from tumorflow.params import ExportParams

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
BATCH_SLICES = 32
FITTING = {
    "windows": "is fitted to the square, its proportions kept",
    "article": "is stretched to the square",
}


def describe_file(
    params: ExportParams,
    *,
    preprocessing: Mapping[str, Any],
    lineage: Mapping[str, Any],
    thickness_mm: Sequence[float] | None,
    head: Head | None,
    distribution: FeatureDistribution | None,
) -> ModelFile:
    """Returns what every variant of a model says; `variant` is added to it.

    Args:
        params: classes, licence and registered name.
        preprocessing: `preprocessing.json` of the tensors.
        lineage: of the evaluation's record.
        thickness_mm: the range of the training slices' thickness; None where it is unknown.
        head: what follows the feature map, for Grad-CAM.
        distribution: of the training slices' features.
    """
    arrays: dict[str, npt.NDArray[Any]] = head.as_arrays() if head else {}
    if distribution:
        arrays |= {"feature_mean": distribution.mean, "feature_deviation": distribution.deviation}
    about = {
        "format": FORMAT,
        "made_by": f"tumorflow {__version__}",
        "intended_use": "research, not for clinical decisions",
        "licence": params.licence,
        "registered_model": params.registered_model,
        "model_hash": lineage["train"]["content_hash"],
        "classes": list(params.classes),
        "input": {
            "height": preprocessing["image_size_px"],
            "width": preprocessing["image_size_px"],
            "channels": 3,
            "range": [0, 255],
        },
        "preprocessing": {
            key: preprocessing[key] for key in ("method", "intensity_unit", "image_size_px", "windows", "air")
        },
        "slice_thickness_mm": thickness_mm and list(thickness_mm),
        "in_plane_spacing": f"any: the whole slice {FITTING[preprocessing['method']]}",
        "outputs": {"probabilities": "float, in the order of classes", "feature_map": "for Grad-CAM"},
        "feature_distance_limit": distribution.limit if distribution else None,
    }
    return ModelFile(about, arrays)


def describe_distribution(
    network: Any,
    training: Sequence[npt.NDArray[np.uint8]],
    validation: Sequence[npt.NDArray[np.uint8]],
) -> FeatureDistribution | None:
    """Returns where a Keras model's pooled features of training slices lie; None where it has no such."""
    import keras

    feature_map = find_feature_map(network)
    if feature_map is None or len(training) == 0 or len(validation) == 0:
        return None
    mapping = keras.Model(network.inputs, feature_map)

    def pool(slices: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        batches = [
            mapping.predict_on_batch(np.stack(slices[start : start + BATCH_SLICES]).astype(np.float32))
            for start in range(0, len(slices), BATCH_SLICES)
        ]
        return np.concatenate([np.asarray(batch).mean(axis=(1, 2)) for batch in batches])

    return describe_features(pool(training), pool(validation))


def measure_thickness(index: "pd.DataFrame") -> list[float] | None:
    """Returns the range, in mm, of the training slices' thickness; None where it is unknown."""
    known = index.loc[index["split"] == "train", "slice_thickness_mm"].dropna()
    return [float(known.min()), float(known.max())] if len(known) else None
