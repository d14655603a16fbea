"""Small datasets as ingestion writes them: manifest, and slices as DICOM or PNG."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tumorflow.files import write_json
from tumorflow.slices import Intensities, hash_intensities

INTERCEPT = -1024


def write_dicom(path: Path, intensities: Intensities) -> None:
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = intensities.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, INTERCEPT
    dataset.PixelData = (intensities.astype(np.int16) - INTERCEPT).astype("<i2").tobytes()
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes slices, given as (intensities, patient, label), to a dataset folder."""

    def write(slices: list[tuple[Intensities, str, str]], name: str = "dataset") -> Path:
        folder = tmp_path / name
        (folder / "slices").mkdir(parents=True)
        rows: list[dict[str, Any]] = []
        for number, (intensities, patient, label) in enumerate(slices):
            is_ct = intensities.dtype == np.int16
            path = f"slices/{number:05}.{'dcm' if is_ct else 'png'}"
            if is_ct:
                write_dicom(folder / path, intensities)
            else:
                cv2.imwrite(str(folder / path), intensities)
            rows.append(
                {
                    "slice_id": f"{name}-{number}",
                    "path": path,
                    "patient": patient,
                    "study": patient,
                    "series": patient,
                    "label": label,
                    "intensity_unit": "HU" if is_ct else "display",
                    "rows": intensities.shape[0],
                    "columns": intensities.shape[1],
                    "slice_thickness_mm": 2.5 if is_ct else None,
                    "manufacturer": "GE" if is_ct else "",
                    "convolution_kernel": "B30f" if is_ct else "",
                    "sex": "F",
                    "age_years": 60.0 if is_ct else None,
                    "content_hash": hash_intensities(intensities),
                }
            )
        manifest = pd.DataFrame(rows).sort_values("content_hash")
        for column in ("slice_thickness_mm", "age_years"):
            manifest[column] = manifest[column].astype("float64")
        manifest.to_parquet(folder / "manifest.parquet", index=False)
        return folder

    return write


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    folder = tmp_path / "validation"
    folder.mkdir()
    write_json(folder / "report.json", {"errors": [], "warnings": [], "expectations": [], "statistics": {}})
    return folder


@pytest.fixture
def tensors(tmp_path: Path) -> Path:
    folder = tmp_path / "tensors"
    folder.mkdir()
    return folder
