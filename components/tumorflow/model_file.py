"""A TFLite file that says itself how to use it: a zip archive follows the model, and any zip tool reads it.

LiteRT ignores what follows; TensorFlow Lite's own metadata look there for label files. Entries are stored,
not compressed: `labels.txt` (a class a line), `tumorflow.json`, and arrays as `.npy`.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SourceError

LABELS, ABOUT, ARRAY = "labels.txt", "tumorflow.json", ".npy"
NEVER = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file knows: the same model, the same bytes
LARGEST_ENTRY = 64 * 2**20


@dataclass(frozen=True)
class ModelFile:
    """What a model's file says of itself."""

    about: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]


def pack(flatbuffer: bytes, file: ModelFile) -> bytes:
    """Returns a TFLite model with what it says of itself behind it.

    Args:
        flatbuffer: the model.
        file: `about` has `classes`, in the order of the probabilities.
    """
    packed = io.BytesIO()
    packed.write(flatbuffer)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:
        entries = {
            LABELS: "".join(f"{name}\n" for name in file.about["classes"]).encode(),
            ABOUT: json.dumps(file.about, indent=2, sort_keys=True).encode(),
        }
        for name, array in file.arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            entries[name + ARRAY] = content.getvalue()
        for name, entry in entries.items():
            archive.writestr(zipfile.ZipInfo(name, NEVER), entry)
    return packed.getvalue()


def unpack(content: bytes) -> ModelFile:
    """Returns what a model's file says of itself.

    Raises:
        SourceError: it says nothing, or what it says cannot be read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {
                entry.filename: archive.read(entry)
                for entry in archive.infolist()
                if entry.file_size <= LARGEST_ENTRY and entry.compress_type == zipfile.ZIP_STORED
            }
        about = json.loads(entries.pop(ABOUT))
        arrays = {
            name.removesuffix(ARRAY): np.lib.format.read_array(io.BytesIO(entry), allow_pickle=False)
            for name, entry in entries.items()
            if name.endswith(ARRAY)
        }
    except (
        zipfile.BadZipFile,
        ArithmeticError,
        EOFError,
        LookupError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        raise SourceError(
            "A model's TFLite file ends with what it says of itself: classes, windows, size. Received: "
            f"{len(content)} bytes, {type(error).__name__}. Export the model again."
        ) from error
    return ModelFile(about, arrays)
