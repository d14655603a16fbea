"""The sample cohort: patients of every class, broken files, one near-duplicate. Same seed, same bytes."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow.errors import ParameterError
from tumorflow.files import write_text
from tumorflow.params import SampleParams
from tumorflow.progress import track
from tumorflow.sampling.broken import BROKEN
from tumorflow.sampling.dicom import make_slice, save
from tumorflow.sampling.lesions import Kind
from tumorflow.sampling.phantom import draw_phantom, make_phantom_grid, scan, slice_positions
from tumorflow.sampling.scanners import draw_acquisition

if TYPE_CHECKING:
    from pydicom import Dataset

KINDS: tuple[Kind, ...] = ("normal", "benign", "malignant")
SIZE_PX = 512
SERIES = "2"
"""Folder of a patient's series: the series number."""
NOTICE = """\
Synthetic CT, drawn by tumorflow: no person's. Names, IDs and dates are invented.
For research, not for clinical decisions.

dicom/<patient>/<series>/<slice>.dcm, classes in labels.csv. A few files are broken on purpose; one slice of
one patient is filed under another as well, with noise of 1 HU. cohort.json says what made this folder.
"""


@dataclass(frozen=True)
class Patient:
    """One invented patient."""

    patient_id: str
    kind: Kind
    position: int
    """Among the patients of its class, from 0."""


def list_patients(params: SampleParams) -> list[Patient]:
    """Returns the patients, classes in equal parts; an ID tells nothing of its class.

    Raises:
        ParameterError: there are classes that nobody drew.
    """
    kinds = [kind for kind in KINDS if kind in params.classes]
    if set(kinds) != set(params.classes):
        raise ParameterError(
            f"The sample cohort has the classes {', '.join(KINDS)}. "
            f"Received: classes {', '.join(params.classes)}. Name some of these, or use a source of your own."
        )
    numbers = np.random.default_rng([params.seed, 0]).permutation(params.patients)
    return [
        Patient(f"SYN{numbers[place] + 1:05}", kinds[place % len(kinds)], place // len(kinds))
        for place in range(params.patients)
    ]


def scan_patient(
    patient: Patient, params: SampleParams, size_px: int = SIZE_PX
) -> Iterator[tuple[npt.NDArray[np.int16], "Dataset"]]:
    """Yields the patient's slices, upwards: Hounsfield units, and the data set that holds them."""
    random = np.random.default_rng([params.seed, 1, KINDS.index(patient.kind), patient.position])
    acquisition = draw_acquisition(params.seed, patient.position)
    phantom = draw_phantom(random, patient.kind, params.difficulty)
    grid = make_phantom_grid(phantom, size_px)
    corner = (float(grid.x_mm[0, 0]), float(grid.y_mm[0, 0]))
    heights = slice_positions(phantom, params.slices_per_patient, acquisition.thickness_mm)
    slices = scan(random, phantom, heights, acquisition.thickness_mm, acquisition.sharpness, size_px)
    for number, (height, units) in enumerate(zip(heights, slices, strict=True), start=1):
        dataset = make_slice(
            units,
            patient_id=patient.patient_id,
            acquisition=acquisition,
            seed=params.seed,
            number=number,
            spacing_mm=grid.spacing_mm,
            increment_mm=round(heights[1] - heights[0], 4),
            position_mm=(*corner, height),
        )
        yield units, dataset


def write_cohort(params: SampleParams, folder: Path, size_px: int = SIZE_PX) -> dict[str, Any]:
    """Returns what was written to the empty `folder`: counts by class, by scanner, broken files.

    Raises:
        ParameterError: there are classes that nobody drew.
    """
    patients = list_patients(params)
    slices: Counter[str] = Counter()
    scanners: Counter[str] = Counter()
    for patient in track(patients, len(patients), "sample", "patients"):
        for number, (_, dataset) in enumerate(scan_patient(patient, params, size_px), start=1):
            save(dataset, slice_path(folder, patient.patient_id, number))
            slices[patient.kind] += 1
        scanners[f"{dataset.Manufacturer} {dataset.ManufacturerModelName}"] += 1
    first, second = patients[0], patients[1]
    twin = next(other for other in patients[1:] if other.kind == first.kind)
    _write_near_duplicate(first, twin, params, folder, size_px)
    slices[twin.kind] += 1
    _, sound = next(scan_patient(second, params, size_px))
    for name, write in BROKEN.items():
        write(sound, slice_path(folder, second.patient_id, 1).with_name(f"{name}.dcm"))
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["patient_id", "label"])
        rows.writerows(sorted((patient.patient_id, patient.kind) for patient in patients))
    write_text(folder / "README.txt", NOTICE)
    return {
        "patients": dict(Counter(patient.kind for patient in patients)),
        "slices": dict(slices),
        "scanners": dict(sorted(scanners.items())),
        "broken_files": sorted(BROKEN),
        "near_duplicates": 1,
    }


def slice_path(folder: Path, patient_id: str, number: int) -> Path:
    """Returns where the cohort in `folder` has a patient's slice, counted from 1."""
    return folder / "dicom" / patient_id / SERIES / f"{number:03}.dcm"


def _write_near_duplicate(
    original: Patient, other: Patient, params: SampleParams, folder: Path, size_px: int
) -> None:
    """Files one patient's first slice, with noise of 1 HU, as another's last one: a mixed-up archive.

    Of one class both, so that the label is right and only a split by patient can leak.
    """
    units, dataset = next(scan_patient(original, params, size_px))
    noise = np.random.default_rng([params.seed, 2]).integers(-1, 2, units.shape, dtype=np.int16)
    number = params.slices_per_patient + 1
    x_mm, y_mm, z_mm = (float(value) for value in dataset.ImagePositionPatient)
    acquisition = draw_acquisition(params.seed, other.position)
    copy = make_slice(
        units + noise,
        patient_id=other.patient_id,
        acquisition=acquisition,
        seed=params.seed,
        number=number,
        spacing_mm=float(dataset.PixelSpacing[0]),
        increment_mm=acquisition.thickness_mm,
        position_mm=(x_mm, y_mm, z_mm + 100.0),
    )
    save(copy, slice_path(folder, other.patient_id, number))
