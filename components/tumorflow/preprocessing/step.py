"""Preprocessing: `dataset` and `validation` → `tensors` (docs/artifacts.md)."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumorflow import membership
from tumorflow.files import read_json, write_json
from tumorflow.params import PreprocessParams
from tumorflow.preprocessing import article, groups, preparation, signatures, splits
from tumorflow.preprocessing.cohort import (
    INDEX_COLUMNS,
    count_by_class,
    order_slices,
    read_cohort,
    shard_place,
)
from tumorflow.preprocessing.rows import opened_rows
from tumorflow.tensors import air_value
from tumorflow.tracker import Tracker

if TYPE_CHECKING:
    import pandas as pd


def run(
    params: PreprocessParams,
    *,
    dataset: Path,
    validation: Path,
    tensors: Path,
    tracker: Tracker,
    parts: Sequence[Path] = (),
    champion: str = "",
) -> str:
    """Returns an empty string after writing `tensors` from the dataset's labelled slices.

    Args:
        params: as those of the steps that prepared the parts.
        dataset: from ingestion.
        validation: of the dataset.
        tensors: the folder to fill.
        tracker: is told the counts and the split.
        parts: all parts of the dataset, in any order; none: it is prepared here, as one.
        champion: NAME/VERSION; the patients that it knows stay in the splits where it had them, so that its
            test set stays locked. Empty: all are split anew.

    Raises:
        SourceError: an input is missing or unreadable, or the parts do not fit.
        DataError: the data did not pass validation, or a class has too few groups to be split.
        SliceError: a slice of the dataset cannot be decoded.
    """
    cohort = read_cohort(dataset, read_json(validation / "report.json"), params.classes)
    members = membership.fetch_members(champion, tracker) if champion else None
    if parts:
        summary = _join(params, cohort, preparation.sort_parts(parts, params, cohort), tensors, members)
    else:
        whole = tensors / "whole.partial"
        whole.mkdir()
        preparation.prepare(params, cohort=cohort, dataset=dataset, folder=whole, number=0, of=1)
        summary = _join(params, cohort, [whole], tensors, members)
        shutil.rmtree(whole)
    _tell(tracker, summary)
    return ""


def _join(
    params: PreprocessParams,
    cohort: "pd.DataFrame",
    parts: Sequence[Path],
    tensors: Path,
    members: "pd.DataFrame | None",
) -> dict[str, Any]:
    """Returns the summary after grouping, splitting and ordering the slices of all parts."""
    unit = str(cohort["intensity_unit"].iloc[0])
    labels, content_hashes = cohort["label"].tolist(), cohort["content_hash"].tolist()
    origin = groups.groups_from(cohort["patient"].tolist())
    least = groups.SAME_ACQUISITION_SIMILARITY if origin == "patient" else params.near_duplicate_similarity
    with opened_rows([part / preparation.SIGNATURES for part in parts]) as stored:
        similar = signatures.similar_pairs(stored, least)
        names = groups.group_slices(cohort["patient"].tolist(), content_hashes, similar)
    described = splits.describe_groups(names, labels, content_hashes, params.classes)
    kept = {}
    if members is not None:
        kept = membership.former_splits(members, names, cohort["patient"].tolist(), content_hashes)
    assignment = splits.split_groups(described, params.classes, _fractions(params), params.seed, kept)
    split_of_slice = [assignment[name] for name in names]

    (tensors / preparation.SHARDS).mkdir()
    for part in parts:
        preparation.take_shards(part, tensors / preparation.SHARDS)
    _write_index(cohort.assign(group=names, split=split_of_slice), params, tensors / "index.parquet")

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
    return summary


def _fractions(params: PreprocessParams) -> dict[str, float]:
    held_out = params.validation_fraction + params.test_fraction
    return {
        "train": 1 - held_out,
        "validation": params.validation_fraction,
        "test": params.test_fraction,
    }


def _write_index(cohort: "pd.DataFrame", params: PreprocessParams, path: Path) -> None:
    """Writes where each slice lies: training slices as the seed shuffles them, then validation and test."""
    places = [shard_place(position, params.shard_slices) for position in range(len(cohort))]
    index = cohort.assign(
        shard=[name for name, _ in places],
        row=[row for _, row in places],
        label_index=[params.classes.index(label) for label in cohort["label"]],
    )
    order = order_slices(cohort["content_hash"].tolist(), cohort["split"].tolist(), params.seed)
    index[list(INDEX_COLUMNS)].iloc[order].to_parquet(path, index=False)


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
