"""A manifest as ingestion writes it, to break in one place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tumorflow.validation.slice_rules import COLUMNS

CLASSES = ("normal", "benign", "malignant")
PATIENTS_PER_CLASS = 12
SLICES_PER_PATIENT = 3


def make_manifest(unit: str = "HU") -> pd.DataFrame:
    """36 patients, 12 a class, 3 slices each; two makers in every class."""
    is_ct = unit == "HU"
    number = np.arange(len(CLASSES) * PATIENTS_PER_CLASS * SLICES_PER_PATIENT)
    patient = number // SLICES_PER_PATIENT
    columns: dict[str, Any] = {
        "slice_id": [f"slice-{n}" for n in number],
        "path": [f"slices/{n}.dcm" for n in number],
        "label": [CLASSES[n // PATIENTS_PER_CLASS] for n in patient],
        "intensity_unit": unit,
        "rows": 512,
        "columns": 512,
        "row_spacing_mm": 0.7 if is_ct else np.nan,
        "column_spacing_mm": 0.7 if is_ct else np.nan,
        "slice_thickness_mm": 2.5 if is_ct else np.nan,
        "slice_position_mm": number.astype(float) if is_ct else np.nan,
        "rescale_slope": 1.0 if is_ct else np.nan,
        "rescale_intercept": -1024.0 if is_ct else np.nan,
        "manufacturer": [("GE", "SIEMENS")[n % 2] if is_ct else "" for n in patient],
        "scanner_model": "",
        "convolution_kernel": "B30f" if is_ct else "",
        "tube_voltage_kv": 120.0 if is_ct else np.nan,
        "sex": ["FM"[n % 2] for n in patient],
        "age_years": 60.0 if is_ct else np.nan,
        "intensity_min": -1024.0 if is_ct else 0.0,
        "intensity_p01": -1000.0 if is_ct else 0.0,
        "intensity_mean": -400.0 if is_ct else 80.0,
        "intensity_p99": 400.0 if is_ct else 240.0,
        "intensity_max": 1500.0 if is_ct else 255.0,
        "intensity_std": 300.0 if is_ct else 70.0,
        "content_hash": [f"{n:064x}" for n in number],
    }
    for key in ("patient", "study", "series"):
        columns[key] = [f"{key}-{n}" if is_ct else "" for n in patient]
    return pd.DataFrame(columns)[list(COLUMNS)]


@pytest.fixture
def manifest() -> pd.DataFrame:
    return make_manifest()


@pytest.fixture
def images() -> pd.DataFrame:
    return make_manifest("display")


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[[pd.DataFrame], Path]:
    def write(manifest: pd.DataFrame) -> Path:
        folder = tmp_path / "dataset"
        folder.mkdir()
        manifest.to_parquet(folder / "manifest.parquet", index=False)
        return folder

    return write


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    folder = tmp_path / "validation"
    folder.mkdir()
    return folder
