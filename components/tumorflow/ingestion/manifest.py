"""The manifest: one row a slice, in an order that does not depend on the pseudonym key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tumorflow.slices import Intensities

if TYPE_CHECKING:
    import pyarrow

# docs/artifacts.md says what each column means
# fmt: off
TEXT_COLUMNS = frozenset({
    "slice_id", "path", "patient", "study", "series", "label", "intensity_unit", "manufacturer",
    "scanner_model", "convolution_kernel", "sex", "content_hash",
})
INTEGER_COLUMNS = frozenset({"rows", "columns"})
COLUMNS = (
    "slice_id", "path", "patient", "study", "series", "label", "intensity_unit", "rows", "columns",
    "row_spacing_mm", "column_spacing_mm", "slice_thickness_mm", "slice_position_mm", "rescale_slope",
    "rescale_intercept", "manufacturer", "scanner_model", "convolution_kernel", "tube_voltage_kv",
    "sex", "age_years", "intensity_min", "intensity_p01", "intensity_mean", "intensity_p99",
    "intensity_max", "intensity_std", "content_hash",
)
# fmt: on


@dataclass(frozen=True)
class Row:
    """One slice's line; `position` is its place in the source, which breaks ties and is not written."""

    values: dict[str, str | int | float | None]
    position: tuple[int, int]

    @property
    def order(self) -> tuple[str, tuple[int, int]]:
        """What rows are sorted by: content first, so that neither names nor keys decide."""
        return str(self.values["content_hash"]), self.position


def describe_intensities(intensities: Intensities) -> dict[str, float]:
    """Returns minimum, 1st percentile, mean, 99th percentile, maximum and standard deviation.

    Percentiles are of the lower kind: the smallest value that at least 1 % (99 %) of pixels do not exceed.
    """
    low = int(intensities.min())
    counts = np.bincount(intensities.ravel().astype(np.int64) - low)
    values = np.arange(low, low + counts.size, dtype=np.float64)
    cumulated = np.cumsum(counts)
    total = int(cumulated[-1])
    p01, p99 = (values[np.searchsorted(cumulated, share * total)] for share in (0.01, 0.99))
    mean = float(counts @ values) / total
    std = float(np.sqrt(counts @ (values - mean) ** 2 / total))
    return {
        "intensity_min": float(low),
        "intensity_p01": float(p01),
        "intensity_mean": mean,
        "intensity_p99": float(p99),
        "intensity_max": float(values[-1]),
        "intensity_std": std,
    }


def build_manifest(rows: Sequence[Row]) -> "pyarrow.Table":
    """Returns the manifest's table: every column of docs/artifacts.md, sorted by content hash.

    Equal contents follow the order of the source, not the pseudonyms, which depend on the key.
    """
    import pyarrow

    kinds = dict.fromkeys(TEXT_COLUMNS, pyarrow.string()) | dict.fromkeys(INTEGER_COLUMNS, pyarrow.int64())
    schema = pyarrow.schema(
        [
            pyarrow.field(name, kinds.get(name, pyarrow.float64()), nullable=name not in kinds)
            for name in COLUMNS
        ]
    )
    ordered = [row.values for row in sorted(rows, key=lambda row: row.order)]
    return pyarrow.Table.from_pylist(ordered, schema=schema)
