"""Parts: what can be told of each slice alone, tensor and signature, for one stretch of the cohort.

All that is computed of pixels is computed here, slice by slice, and a part holds whole shards: results cannot
depend on how many parts there are.
"""

import hashlib
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SourceError
from tumorflow.files import read_json, write_json
from tumorflow.params import PreprocessParams
from tumorflow.preprocessing import article, groups, signatures
from tumorflow.preprocessing.cohort import shard_place
from tumorflow.preprocessing.rows import written_rows
from tumorflow.progress import track
from tumorflow.slices import Intensities, read_intensities
from tumorflow.tensors import CHANNELS, Tensor, to_tensor

if TYPE_CHECKING:
    import pandas as pd

ABOUT, SHARDS, SIGNATURES = "part.json", "shards", "signatures.npy"


def prepare(
    params: PreprocessParams, *, cohort: "pd.DataFrame", dataset: Path, folder: Path, number: int, of: int
) -> int:
    """Returns how many slices part `number` (from 0) of `of` has, after writing it to `folder`.

    Raises:
        SliceError: a slice of the dataset cannot be decoded.
    """
    import cv2

    cv2.setNumThreads(1)  # a part is one core's work: those side by side share out the cores
    about = describe(params, cohort, number, of)
    unit, origin = about["recipe"]["intensity_unit"], about["recipe"]["groups_from"]
    stretch = stretch_of(len(cohort), params.shard_slices, number, of)
    paths = cohort["path"].iloc[stretch.start : stretch.stop].tolist()
    waiting = track(paths, len(paths), "preprocess", "slices")
    tensor_shape = (params.image_size_px, params.image_size_px, CHANNELS)
    (folder / SHARDS).mkdir()
    with written_rows(
        folder / SIGNATURES, len(paths), (signatures.SIGNATURE_LENGTH,), signatures.STORED
    ) as append_signature:
        for name, slices in about["shards"].items():
            with written_rows(folder / SHARDS / name, slices, tensor_shape, np.uint8) as append_tensor:
                for path in islice(waiting, slices):
                    intensities = read_intensities(dataset / path)
                    append_tensor(_tensor(intensities, unit, params))
                    append_signature(_signature(intensities, unit, origin))
    write_json(folder / ABOUT, about)
    return len(paths)


def sort_parts(parts: Sequence[Path], params: PreprocessParams, cohort: "pd.DataFrame") -> list[Path]:
    """Returns the parts' folders by number.

    Raises:
        SourceError: they are not, together, this cohort prepared as `params` ask.
    """
    found = [(read_json(folder / ABOUT), folder) for folder in parts]
    found.sort(key=lambda part: part[0]["number"])
    for number, (about, _) in enumerate(found):
        expected = describe(params, cohort, number, len(parts))
        differing = ", ".join(key for key in expected if expected[key] != about.get(key))
        if differing:
            raise SourceError(
                "The parts that are joined are all those of one cohort, each once, prepared with the same "
                f"parameters. Received: {len(parts)} parts, among them part {about['number']} of "
                f"{about.get('of')}; what differs: {differing}. Prepare the parts again."
            )
    return [folder for _, folder in found]


def take_shards(part: Path, target: Path) -> None:
    """Brings a part's shards to the folder `target`, without a copy where the file system knows links.

    Raises:
        SourceError: a shard is missing.
    """
    for name in read_json(part / ABOUT)["shards"]:
        shard = part / SHARDS / name
        if not shard.is_file():
            raise SourceError(f"A part holds its shards. Received: no '{name}'. Prepare the part again.")
        try:
            (target / name).hardlink_to(shard)
        except OSError:  # another file system, or one without links
            shutil.copyfile(shard, target / name)


def describe(params: PreprocessParams, cohort: "pd.DataFrame", number: int, of: int) -> dict[str, Any]:
    """Returns all that decides what a part holds, as it stands in its `part.json`."""
    size = params.shard_slices
    stretch = stretch_of(len(cohort), size, number, of)
    return {
        "number": number,
        "of": of,
        "shards": {
            shard_place(start, size)[0]: min(size, stretch.stop - start)
            for start in range(stretch.start, stretch.stop, size)
        },
        "cohort": hashlib.sha256("\n".join(cohort["content_hash"]).encode()).hexdigest(),
        "recipe": {
            **params.model_dump(mode="json", include={"method", "image_size_px", "windows"}),
            "intensity_unit": str(cohort["intensity_unit"].iloc[0]),
            "groups_from": groups.groups_from(cohort["patient"].tolist()),
        },
    }


def stretch_of(slices: int, shard_slices: int, number: int, of: int) -> range:
    """Returns the positions that part `number` of `of` holds: whole shards, one more or less than others."""
    shards = -(-slices // shard_slices)
    first, stop = (min(slices, shards * at // of * shard_slices) for at in (number, number + 1))
    return range(first, stop)


def _tensor(intensities: Intensities, unit: str, params: PreprocessParams) -> Tensor:
    if params.method == "article":
        return article.to_article_tensor(intensities, image_size_px=params.image_size_px)
    return to_tensor(intensities, unit=unit, image_size_px=params.image_size_px, windows=params.windows)


def _signature(intensities: Intensities, unit: str, origin: groups.GroupsFrom) -> npt.NDArray[np.float16]:
    if origin == "patient":
        return signatures.noise_signature(intensities).astype(signatures.STORED)
    return signatures.scan_signature(intensities, unit).astype(signatures.STORED)
