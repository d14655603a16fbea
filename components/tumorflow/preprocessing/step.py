"""Preprocessing: `dataset` and `validation` → `tensors` (docs/artifacts.md)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tumorflow.files import read_json, write_json
from tumorflow.params import PreprocessParams
from tumorflow.preprocessing import article, groups, shards, signatures, splits
from tumorflow.preprocessing.cohort import INDEX_COLUMNS, count_by_class, order_slices, read_cohort
from tumorflow.progress import track
from tumorflow.slices import Intensities, read_intensities
from tumorflow.tensors import Tensor, air_value, to_tensor
from tumorflow.tracker import Tracker

if TYPE_CHECKING:
    import pandas as pd


def run(params: PreprocessParams, *, dataset: Path, validation: Path, tensors: Path, tracker: Tracker) -> str:
    """Returns an empty string after writing `tensors` from the dataset's labelled slices.

    Raises:
        SourceError: an input is missing or unreadable.
        DataError: the data did not pass validation, or a class has too few groups to be split.
        SliceError: a slice of the dataset cannot be decoded.
    """
    import pyarrow

    # Arrow's own allocator keeps what it once had: 20 MB more at 2,000 slices than at 200
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    cohort = read_cohort(dataset, read_json(validation / "report.json"), params.classes)
    unit = str(cohort["intensity_unit"].iloc[0])
    labels, content_hashes = cohort["label"].tolist(), cohort["content_hash"].tolist()
    origin = groups.groups_from(cohort["patient"].tolist())
    names = _group(cohort, dataset, tensors / "signatures.partial", origin, params.near_duplicate_similarity)
    described = splits.describe_groups(names, labels, content_hashes, params.classes)
    assignment = splits.split_groups(described, params.classes, _fractions(params), params.seed)
    split_of_slice = [assignment[name] for name in names]

    order = order_slices(content_hashes, split_of_slice, params.seed)
    cohort = cohort.assign(group=names, split=split_of_slice).iloc[order].reset_index(drop=True)
    files = track(cohort["path"].tolist(), len(cohort), "preprocess", "slices")
    stream = (_prepare(read_intensities(dataset / file), unit, params) for file in files)
    shards.write_shards(tensors / "shards", stream, len(cohort), params.shard_slices, params.image_size_px)
    _write_index(cohort, params, tensors / "index.parquet")

    group_splits = [assignment[group.name] for group in described]
    summary = {
        "method": params.method,
        "image_size_px": params.image_size_px,
        "windows": [window.model_dump() for window in params.windows],
        "classes": list(params.classes),
        "intensity_unit": unit,
        "air": list(article.AIR if params.method == "article" else air_value(unit, params.windows)),
        "groups_from": origin,
        "groups": count_by_class(group_splits, [group.label for group in described], params.classes),
        "slices": count_by_class(split_of_slice, labels, params.classes),
        "split_hash": splits.hash_split(content_hashes, split_of_slice),
    }
    write_json(tensors / "preprocessing.json", summary)
    _tell(tracker, summary)
    return ""


def _group(
    cohort: "pd.DataFrame", dataset: Path, scratch: Path, origin: groups.GroupsFrom, similarity: float
) -> list[str]:
    """Returns the group of each slice; signatures pass through the file `scratch`, which is removed."""
    with scratch.open("wb") as file:
        rows = zip(cohort["path"].tolist(), cohort["intensity_unit"].tolist(), strict=True)
        for path, unit in track(rows, len(cohort), "find near-duplicates", "slices"):
            intensities = read_intensities(dataset / path)
            signature = (
                signatures.noise_signature(intensities)
                if origin == "patient"
                else signatures.scan_signature(intensities, unit)
            )
            signatures.append_signature(file, signature)
    least = groups.SAME_ACQUISITION_SIMILARITY if origin == "patient" else similarity
    similar = signatures.similar_pairs(scratch, len(cohort), least)
    names = groups.group_slices(cohort["patient"].tolist(), cohort["content_hash"].tolist(), similar)
    scratch.unlink()
    return names


def _fractions(params: PreprocessParams) -> dict[str, float]:
    held_out = params.validation_fraction + params.test_fraction
    return {
        "train": 1 - held_out,
        "validation": params.validation_fraction,
        "test": params.test_fraction,
    }


def _prepare(intensities: Intensities, unit: str, params: PreprocessParams) -> Tensor:
    if params.method == "article":
        return article.to_article_tensor(intensities, image_size_px=params.image_size_px)
    return to_tensor(intensities, unit=unit, image_size_px=params.image_size_px, windows=params.windows)


def _write_index(cohort: "pd.DataFrame", params: PreprocessParams, path: Path) -> None:
    places = [shards.shard_place(position, params.shard_slices) for position in range(len(cohort))]
    index = cohort.assign(
        shard=[name for name, _ in places],
        row=[row for _, row in places],
        label_index=[params.classes.index(label) for label in cohort["label"]],
    )
    index[list(INDEX_COLUMNS)].to_parquet(path, index=False)


def _tell(tracker: Tracker, summary: Mapping[str, object]) -> None:
    tracker.log_params({key: str(summary[key]) for key in ("intensity_unit", "groups_from", "split_hash")})
    for name in ("groups", "slices"):
        counts = summary[name]
        if isinstance(counts, dict):
            tracker.log_metrics(dict(_flatten(name, counts)))
    tracker.log_dataset(
        "tensors", digest=str(summary["split_hash"]), source="dataset", context="preprocessing"
    )


def _flatten(name: str, counts: dict[str, dict[str, int]]) -> Iterator[tuple[str, float]]:
    for split, by_class in counts.items():
        for label, count in by_class.items():
            yield f"{name}_{split}_{label}", float(count)
