"""The drift log: of each slice that was answered, what the model saw in it. No pixels, no identifiers."""

import base64
import json
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import numpy as np

from tumorflow.serving.model import About
from tumorflow.serving.prediction import Examined
from tumorflow.serving.uploads import Refused

LARGEST_FILE = 256 * 2**20
FILE = "drift.jsonl"


class DriftLog:
    """Appends a line of JSON a slice to a file, which is put aside once when it is large.

    A line has `hour` (UTC: a minute might name a patient), the model, the probabilities, how far the features
    are from those that were learned from, the features as base64 of little-endian float16, and the thickness.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE if folder else None
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, about: About, found: Sequence[Examined | Refused]) -> None:
        """Appends the slices among what was found in a request.

        Raises:
            OSError: they cannot be written.
        """
        if self._path is None:
            return
        lines = [
            _describe(about, each)
            for each in found
            if isinstance(each, Examined) and each.features is not None
        ]
        with self._lock:
            whole = 0
            try:
                if self._file is None:
                    self._file = self._path.open("a")
                whole = self._file.tell()
                self._file.writelines(lines)
                self._file.flush()
                if self._file.tell() > LARGEST_FILE:
                    self._close()
                    self._path.replace(self._path.with_suffix(".1.jsonl"))
            except OSError:
                self._close()  # what it still holds would be tried again and again
                with suppress(OSError):
                    os.truncate(self._path, whole)  # a part of a line would spoil the next one
                raise

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


def _describe(about: About, each: Examined) -> str:
    features = each.features if each.features is not None else np.zeros(0)
    line = {
        "hour": datetime.now(UTC).strftime("%Y-%m-%dT%H"),
        "model": about.model_hash,
        "version": about.version,
        "variant": about.variant,
        "probabilities": [round(value, 6) for value in each.opinion.probabilities.values()],
        "feature_distance": each.opinion.feature_distance,
        "slice_thickness_mm": each.thickness_mm,
        "features": base64.b64encode(features.astype("<f2").tobytes()).decode("ascii"),
    }
    return json.dumps(line) + "\n"
