"""Which patients and slices a model has met, as digests: enough to know them again, and no pseudonym.

A digest is 16 hexadecimal digits of SHA-256 over the kind and the pseudonym or content hash. It stays the
same from run to run; a patient's changes with the pseudonym key, a slice's does not.
"""

import hashlib
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SourceError
from tumorflow.tracker import Tracker, split_reference

if TYPE_CHECKING:
    import pandas as pd

FILE = "groups.parquet"
EVIDENCE = f"evidence/{FILE}"
"""Where a model version keeps it."""
SPLITS = ("train", "validation", "test")
KINDS = {"group": "group", "patient": "patient", "content_hash": "slice"}
"""Column of `index.parquet` → kind of digest."""


def digest(kind: str, name: str) -> str:
    """Returns the digest of a group, patient or slice; empty where the name is."""
    return hashlib.sha256(f"tumorflow {kind}\0{name}".encode()).hexdigest()[:16] if name else ""


def describe_members(index: "pd.DataFrame") -> "pd.DataFrame":
    """Returns one row a slice of the index: its `split`, and digests as `group`, `patient` and `slice`.

    Rows are in the order of split and slice, which tells nothing else.
    """
    import pandas as pd

    members = {
        kind: [digest(kind, name) for name in index[column].fillna("")] for column, kind in KINDS.items()
    }
    table = pd.DataFrame({"split": index["split"].astype(str).tolist(), **members})
    return table.sort_values(["split", "slice", "group"], ignore_index=True)


def read_members(path: Path) -> "pd.DataFrame":
    """Returns the table that `describe_members` made.

    Raises:
        SourceError: it cannot be read.
    """
    import pandas as pd

    try:
        return pd.read_parquet(path, columns=["split", *KINDS.values()])
    except (OSError, ValueError) as error:
        raise SourceError(
            f"The evidence of a model version holds a readable {FILE}. Received: {type(error).__name__}. "
            "Register the version again."
        ) from error


def fetch_members(reference: str, tracker: Tracker) -> "pd.DataFrame | None":
    """Returns whom a registered version was trained, tuned and tested on; None: it keeps no record.

    Args:
        reference: NAME/VERSION.
        tracker: knows the registry.

    Raises:
        ParameterError: there is no such version.
        UnavailableError: the registry cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="tumorflow-version-") as place:
        tracker.fetch_version(*split_reference(reference), Path(place), (EVIDENCE,))
        path = Path(place) / EVIDENCE
        return read_members(path) if path.is_file() else None


def recognise(
    members: "pd.DataFrame", patients: Iterable[str], content_hashes: Iterable[str], splits: Collection[str]
) -> npt.NDArray[np.bool_]:
    """Returns (n,) which slices are among the members of the splits, by their patient or by their content.

    Args:
        members: as `describe_members` made them.
        patients: pseudonym of each slice's patient; empty where unknown.
        content_hashes: of each slice.
        splits: those that count.
    """
    met = members[members["split"].isin(list(splits))]
    known_patients, known_slices = set(met["patient"]) - {""}, set(met["slice"])
    return np.array(
        [
            digest("patient", patient) in known_patients or digest("slice", content) in known_slices
            for patient, content in zip(patients, content_hashes, strict=True)
        ],
        dtype=bool,
    )


def former_splits(
    members: "pd.DataFrame", names: Sequence[str], patients: Sequence[str], content_hashes: Sequence[str]
) -> dict[str, str]:
    """Returns group name → the split that its members were in; a group without a known member is left out.

    A group that joins members of several splits counts as trained on before tuned on before tested on: what
    once taught a model never tests one.

    Args:
        members: as `describe_members` made them.
        names: the group of each slice.
        patients: pseudonym of each slice's patient; empty where unknown.
        content_hashes: of each slice.
    """
    found: dict[str, str] = {}
    for split in SPLITS:
        met = recognise(members, patients, content_hashes, (split,))
        for name, is_member in zip(names, met, strict=True):
            if is_member:
                found.setdefault(name, split)
    return found
