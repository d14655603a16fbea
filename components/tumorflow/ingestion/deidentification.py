"""De-identification at the door: DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile.

Nothing is removed from a header: a new one is made from what may stay. Options (CID 7050): Retain Patient
Characteristics for sex and age (over 89 becomes 90), Retain Device Identity for manufacturer, model and
kernel only, and only where they read as device terms. Dates, private tags, overlays, curves, references
and free text have no way in. UIDs are remapped consistently under the pseudonym key. Clean Pixel Data is
not claimed: images that are marked or made as annotated are refused instead.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tumorflow.errors import SliceError
from tumorflow.ingestion.header import read_number, read_numbers, read_text, read_texts
from tumorflow.ingestion.pseudonyms import Identity

if TYPE_CHECKING:
    from pydicom import Dataset

# fmt: off
NAMING_TAGS = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName",
    "PatientMotherBirthName", "PatientBirthDate", "InstitutionName", "InstitutionAddress",
    "InstitutionalDepartmentName", "ReferringPhysicianName", "PerformingPhysicianName",
    "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "OperatorsName", "AccessionNumber",
)
KEPT_TAGS = (
    "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "IssuerOfPatientID", "StudyDate", "PatientSex", "PatientAge", "PixelSpacing", "SliceThickness",
    "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "Manufacturer",
    "ManufacturerModelName", "ConvolutionKernel", "KVP", "WindowCenter", "WindowWidth",
    "InstanceNumber", "LossyImageCompression",
)
# fmt: on
HEADER_TAGS = NAMING_TAGS + KEPT_TAGS
MAX_AGE_YEARS = 89
# Words of devices: in a device's element they identify nobody, though an institution be called by one.
DEVICE_WORDS = frozenset(
    {"canon", "ct", "ge", "health", "healthcare", "healthineers", "hitachi", "lung", "medical", "philips"}
    | {"shimadzu", "siemens", "standard", "systems", "toshiba", "united", "imaging", "neusoft", "neurologica"}
)
DEVICE_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+()-]{0,31}")
YEARS_PER_UNIT = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


@dataclass(frozen=True)
class Geometry:
    """Where a slice lies. None where it is unknown or not sane."""

    row_spacing_mm: float | None = None
    column_spacing_mm: float | None = None
    slice_thickness_mm: float | None = None
    position_mm: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    slice_position_mm: float | None = None


@dataclass(frozen=True)
class Facts(Geometry):
    """What is kept of a header. None or empty where it is unknown or not sane."""

    manufacturer: str = ""
    scanner_model: str = ""
    convolution_kernel: str = ""
    tube_voltage_kv: float | None = None
    sex: str = ""
    age_years: float | None = None
    instance_number: int | None = None
    window: tuple[float, float] | None = None
    lossy: bool = False


def read_identity(dataset: "Dataset") -> Identity:
    """Returns whose slice a data set is.

    Raises:
        SliceError: the study, series or instance UID is missing.
    """
    uids = [read_text(dataset, f"{level}InstanceUID") for level in ("Study", "Series", "SOP")]
    if not all(uids):
        raise SliceError(
            "missing_uid",
            "The study, series or SOP Instance UID is missing.",
            "Export it again: without UIDs slices cannot be kept apart.",
        )
    return Identity(
        patient_id=read_text(dataset, "PatientID"),
        issuer=read_text(dataset, "IssuerOfPatientID"),
        study_uid=uids[0],
        series_uid=uids[1],
        sop_uid=uids[2],
        frame_of_reference_uid=read_text(dataset, "FrameOfReferenceUID"),
    )


def read_naming_words(dataset: "Dataset") -> frozenset[str]:
    """Returns every word of the header's naming elements, in lower case, but for those of devices."""
    text = " ".join(value for tag in NAMING_TAGS for value in read_texts(dataset, tag))
    # a number of three digits or fewer is in every model's name and in many IDs
    words = {word for word in _words(text) if not word.isdecimal() or len(word) > 3}
    return frozenset(words - DEVICE_WORDS)


def _holder(groups: Sequence["Dataset"], keyword: str) -> "Dataset":
    return next((group for group in groups if keyword in group), groups[-1])


def read_geometry(groups: Sequence["Dataset"]) -> Geometry:
    """Returns where a frame lies, from its headers: of each element the first in `groups`.

    Raises:
        SliceError: the plane is not axial.
    """
    holder = partial(_holder, groups)
    spacing = read_numbers(holder("PixelSpacing"), "PixelSpacing", 2, limit=100) or (0.0, 0.0)
    position = read_numbers(holder("ImagePositionPatient"), "ImagePositionPatient", 3, limit=1e5)
    orientation = read_numbers(holder("ImageOrientationPatient"), "ImageOrientationPatient", 6, limit=1.001)
    normal = None if orientation is None else np.cross(orientation[:3], orientation[3:])
    if normal is not None and not 0.99 < float(np.linalg.norm(normal)) < 1.01:
        orientation = normal = None
    if normal is not None and abs(normal[2]) < 0.7:  # gantries tilt by 30 degrees at most
        raise SliceError("not_axial", "The image plane is not axial.", "Use the axial series.")
    if normal is not None and position is not None:
        along: float | None = float(np.dot(normal, position))
    else:
        along = read_number(holder("SliceLocation"), "SliceLocation", -1e5, 1e5)
    return Geometry(
        row_spacing_mm=spacing[0] if spacing[0] > 0 else None,
        column_spacing_mm=spacing[1] if spacing[1] > 0 else None,
        slice_thickness_mm=read_number(holder("SliceThickness"), "SliceThickness", 1e-3, 100),
        position_mm=position,
        orientation=orientation,
        slice_position_mm=None if along is None else round(along, 4) + 0.0,
    )


def read_facts(groups: Sequence["Dataset"], geometry: Geometry, words: frozenset[str], lossy: bool) -> Facts:
    """Returns what may be kept of a frame's headers: of each element the first in `groups`.

    Args:
        groups: the headers.
        geometry: what `read_geometry` returned of them.
        words: no device's term may hold one of these.
        lossy: whether the pixels were ever compressed with loss.
    """
    holder = partial(_holder, groups)
    root = groups[-1]
    window = [read_texts(holder(keyword), keyword) for keyword in ("WindowCenter", "WindowWidth")]
    instance = read_number(root, "InstanceNumber", 0, 99_999)
    return Facts(
        **vars(geometry),
        manufacturer=clean_device_term(read_text(root, "Manufacturer"), words),
        scanner_model=clean_device_term(read_text(root, "ManufacturerModelName"), words),
        convolution_kernel=clean_device_term(
            read_text(holder("ConvolutionKernel"), "ConvolutionKernel"), words
        ),
        tube_voltage_kv=read_number(holder("KVP"), "KVP", 1, 500),
        sex=sex if (sex := read_text(root, "PatientSex").upper()) in ("F", "M", "O") else "",
        age_years=_read_age(root),
        instance_number=None if instance is None else int(instance),
        window=_parse_window(*window),
        lossy=lossy,
    )


def clean_device_term(value: str, words: frozenset[str]) -> str:
    """Returns `value` if it reads as a device term and shares no word with `words`; else an empty string.

    A term is short, plain, has no five digits in a row (numbers identify), and holds no naming word.
    """
    value = " ".join(value.split())
    if not DEVICE_TERM.fullmatch(value) or re.search(r"\d{5}", value):
        return ""
    squeezed = "".join(_words(value))
    named = words & set(_words(value)) or any(len(word) >= 4 and word in squeezed for word in words)
    return "" if named else value


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text.casefold()) if len(word) >= 2]


def _read_age(dataset: "Dataset") -> float | None:
    """Returns the age in years, 90 for all over 89; from the dates where PatientAge is not given."""
    match = re.fullmatch(r"(\d{3})([DWMY])", read_text(dataset, "PatientAge"))
    if match and int(match[1]):  # 000Y is written for: unknown
        age = int(match[1]) * YEARS_PER_UNIT[match[2]]
    else:
        born, studied = (_parse_date(read_text(dataset, tag)) for tag in ("PatientBirthDate", "StudyDate"))
        if born is None or studied is None or studied < born:
            return None
        had_birthday = (studied.month, studied.day) >= (born.month, born.day)
        age = float(studied.year - born.year - (not had_birthday))
    return float(MAX_AGE_YEARS + 1) if age > MAX_AGE_YEARS else round(age, 2)


def _parse_date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if re.fullmatch(r"\d{8}", text) else None
    except ValueError:
        return None


def _parse_window(centers: Sequence[str], widths: Sequence[str]) -> tuple[float, float] | None:
    try:
        center, width = float(centers[0]), float(widths[0])
    except (IndexError, ValueError):
        return None
    return (center, width) if abs(center) <= 1e4 and 1 <= width <= 1e5 else None
