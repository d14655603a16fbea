"""The slices that take part, and where each of them goes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tumorflow.errors import DataError, SourceError
from tumorflow.preprocessing.splits import SPLITS

if TYPE_CHECKING:
    import pandas as pd

COLUMNS_READ = (
    "slice_id", "path", "patient", "label", "intensity_unit", "manufacturer", "convolution_kernel",
    "slice_thickness_mm", "sex", "age_years", "content_hash",
)  # fmt: skip
INDEX_COLUMNS = (
    "slice_id", "shard", "row", "split", "label", "label_index", "group", "patient", "manufacturer",
    "convolution_kernel", "slice_thickness_mm", "sex", "age_years", "content_hash",
)  # fmt: skip


def read_cohort(dataset: Path, report: Mapping[str, Any], classes: Sequence[str]) -> "pd.DataFrame":
    """Returns the manifest's labelled slices, in its order.

    Raises:
        SourceError: there is no readable manifest.
        DataError: validation found errors, or slices lack a label and validation did not let them pass.
    """
    import pandas as pd
    import pyarrow

    # Arrow's own allocator keeps what it once had: 20 MB more at 2,000 slices than at 200
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    path = dataset / "manifest.parquet"
    try:
        manifest = pd.read_parquet(path, columns=list(COLUMNS_READ))
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(
            f"A dataset has a readable manifest.parquet. Received: {type(error).__name__}. "
            "Run ingestion again."
        ) from error
    if report["errors"]:
        raise DataError(
            f"Only data that passed validation is preprocessed. Received: a report with "
            f"{len(report['errors'])} errors. See report.json of the validation and mend the data."
        )
    labelled = manifest["label"].isin(classes)
    allowed = any(warning["rule"] == "unlabelled_slices" for warning in report["warnings"])
    if not labelled.all() and not allowed:
        raise DataError(
            f"Every slice has one of the labels {', '.join(classes)}. Received: {int((~labelled).sum())} "
            "slices without. Complete the label file, or raise validate.max_unlabelled_fraction."
        )
    units = sorted(set(manifest["intensity_unit"]))
    if len(units) != 1:
        raise DataError(
            f"All slices of a dataset are in one intensity unit. Received: {', '.join(units) or 'no slice'}. "
            "Ingest DICOM files and images apart."
        )
    if not labelled.any():
        raise DataError("A dataset has labelled slices. Received: none. Complete the label file.")
    return manifest[labelled].reset_index(drop=True)


def shard_place(position: int, shard_slices: int) -> tuple[str, int]:
    """Returns the shard's file name, and the row in it, of the slice at `position` of the cohort."""
    shard, row = divmod(position, shard_slices)
    return f"shard-{shard:05}.npy", row


def order_slices(content_hashes: Sequence[str], splits: Sequence[str], seed: int) -> list[int]:
    """Returns positions: training slices shuffled by the seed, then validation and test by content hash."""
    ordered = sorted(range(len(splits)), key=lambda at: (SPLITS.index(splits[at]), content_hashes[at]))
    training = sum(split == "train" for split in splits)
    shuffled = np.random.default_rng(seed).permutation(training)
    return [ordered[at] for at in shuffled.tolist()] + ordered[training:]


def count_by_class(
    splits: Sequence[str], labels: Sequence[str], classes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Returns split → class → how many."""
    counts = Counter(zip(splits, labels, strict=True))
    return {split: {label: counts[split, label] for label in classes} for split in SPLITS}
