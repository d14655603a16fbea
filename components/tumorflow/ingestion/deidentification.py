"""De-identification at the door: DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile.

Nothing is removed from a header: a new one is made from what may stay. Options (CID 7050): Retain Patient
Characteristics for sex and age (over 89 becomes 90), Retain Device Identity for manufacturer, model and
kernel only, and only where they read as device terms. Dates, private tags, overlays, curves, references
and free text have no way in. UIDs are remapped consistently under the pseudonym key. Clean Pixel Data is
not claimed: images that are marked or made as annotated are refused instead.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SliceError
from tumorflow.ingestion.header import read_number, read_numbers, read_text, read_texts

if TYPE_CHECKING:
    from pydicom import Dataset

NAMING_TAGS = (
    "PatientName PatientID OtherPatientIDs OtherPatientNames PatientBirthName PatientMotherBirthName "
    "PatientBirthDate InstitutionName InstitutionAddress InstitutionalDepartmentName ReferringPhysicianName "
    "PerformingPhysicianName PhysiciansOfRecord NameOfPhysiciansReadingStudy OperatorsName AccessionNumber StudyID"
).split()
HEADER_TAGS = [
    *NAMING_TAGS,
    *(
        "SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID IssuerOfPatientID StudyDate "
        "PatientSex PatientAge PixelSpacing SliceThickness ImagePositionPatient ImageOrientationPatient "
        "SliceLocation Manufacturer ManufacturerModelName ConvolutionKernel KVP WindowCenter WindowWidth "
        "InstanceNumber LossyImageCompression"
    ).split(),
]
MAX_AGE_YEARS = 89
METHOD = (
    "tumorflow: new header from an allow-list",
    "device identity: manufacturer, model and kernel only",
    "UIDs and patient: keyed HMAC-SHA256",
)
CODES = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113108", "Retain Patient Characteristics Option"),
    ("113109", "Retain Device Identity Option"),
)
DEVICE_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+()-]{0,31}")
YEARS_PER_UNIT = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


@dataclass(frozen=True)
class Identity:
    """Whose slice it is, as the source says. It never leaves ingestion."""

    patient_id: str
    issuer: str
    study_uid: str
    series_uid: str
    sop_uid: str
    frame_of_reference_uid: str
    words: frozenset[str]
    """Every word of the header's naming elements, in lower case."""

    def of_frame(self, frame: int) -> "Identity":
        """Returns the identity of one frame of a multi-frame image, as if it were an instance of its own."""
        return replace(self, sop_uid=f"{self.sop_uid}#{frame}")


@dataclass(frozen=True)
class Facts:
    """What is kept of a header. None or empty where it is unknown or not sane."""

    row_spacing_mm: float | None = None
    column_spacing_mm: float | None = None
    slice_thickness_mm: float | None = None
    position_mm: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    slice_position_mm: float | None = None
    manufacturer: str = ""
    scanner_model: str = ""
    convolution_kernel: str = ""
    tube_voltage_kv: float | None = None
    sex: str = ""
    age_years: float | None = None
    instance_number: int | None = None
    window: tuple[float, float] | None = None
    lossy: bool = False


@dataclass(frozen=True)
class Pseudonyms:
    """Keyed pseudonyms: the same original gives the same one, and none can be made without the key."""

    key: bytes

    def uid(self, original: str) -> str:
        """Returns a UID below 2.25 (DICOM PS3.5 B.2) from 128 bits of an HMAC."""
        return f"2.25.{int.from_bytes(self._digest('uid', original)[:16], 'big')}"

    def patient(self, identity: Identity) -> str:
        """Returns `P-` and 16 hexadecimal digits.

        Where the Patient ID is empty the study stands for the patient: slices of one study stay together.
        """
        if not identity.patient_id:
            return self._short("study as patient", identity.study_uid)
        return self._short("patient", f"{identity.issuer}\0{identity.patient_id}")

    def _short(self, purpose: str, original: str) -> str:
        return f"P-{self._digest(purpose, original).hex()[:16]}"

    def _digest(self, purpose: str, original: str) -> bytes:
        # surrogates stand for bytes that no character set explains
        message = f"{purpose}\0{original}".encode(errors="surrogatepass")
        return hmac.new(self.key, message, hashlib.sha256).digest()


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
    text = " ".join(value for tag in NAMING_TAGS for value in read_texts(dataset, tag))
    return Identity(
        patient_id=read_text(dataset, "PatientID"),
        issuer=read_text(dataset, "IssuerOfPatientID"),
        study_uid=uids[0],
        series_uid=uids[1],
        sop_uid=uids[2],
        frame_of_reference_uid=read_text(dataset, "FrameOfReferenceUID"),
        words=frozenset(_words(text)),
    )


def read_facts(groups: Sequence["Dataset"], words: frozenset[str], lossy: bool) -> Facts:
    """Returns what may be kept of a frame's headers, the first of `groups` that has an element speaking for it.

    Raises:
        SliceError: the plane is not axial.
    """

    def holder(keyword: str) -> "Dataset":
        return next((group for group in groups if keyword in group), groups[-1])

    spacing = read_numbers(holder("PixelSpacing"), "PixelSpacing", 2, limit=100) or (0.0, 0.0)
    position = read_numbers(holder("ImagePositionPatient"), "ImagePositionPatient", 3, limit=1e5)
    orientation = read_numbers(holder("ImageOrientationPatient"), "ImageOrientationPatient", 6, limit=1.001)
    normal = None if orientation is None else np.cross(orientation[:3], orientation[3:])
    if normal is not None and not 0.99 < float(np.linalg.norm(normal)) < 1.01:
        orientation = normal = None
    if normal is not None and abs(normal[2]) < 0.7:  # gantries tilt by 30 degrees at most
        raise SliceError("not_axial", "The image plane is not axial.", "Use the axial series.")
    if normal is not None and position is not None:
        along = float(np.dot(normal, position))
    else:
        along = read_number(holder("SliceLocation"), "SliceLocation", -1e5, 1e5)  # type: ignore[assignment]
    root = groups[-1]
    centers, widths = (read_texts(holder(f"Window{part}"), f"Window{part}")[:1] for part in ("Center", "Width"))
    instance = read_number(root, "InstanceNumber", 0, 99_999)
    return Facts(
        row_spacing_mm=spacing[0] if spacing[0] > 0 else None,
        column_spacing_mm=spacing[1] if spacing[1] > 0 else None,
        slice_thickness_mm=read_number(holder("SliceThickness"), "SliceThickness", 1e-3, 100),
        position_mm=position,
        orientation=orientation,
        slice_position_mm=None if along is None else round(along, 4) + 0.0,
        manufacturer=clean_device_term(read_text(root, "Manufacturer"), words),
        scanner_model=clean_device_term(read_text(root, "ManufacturerModelName"), words),
        convolution_kernel=clean_device_term(
            read_text(holder("ConvolutionKernel"), "ConvolutionKernel"), words
        ),
        tube_voltage_kv=read_number(holder("KVP"), "KVP", 1, 500),
        sex=sex if (sex := read_text(root, "PatientSex").upper()) in ("F", "M", "O") else "",
        age_years=_read_age(root),
        instance_number=None if instance is None else int(instance),
        window=_parse_window(centers, widths),
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


def build_dataset(
    hounsfield: npt.NDArray[np.int16], identity: Identity, facts: Facts, pseudonyms: Pseudonyms
) -> "Dataset":
    """Returns a new CT Image data set in the one form that ingestion writes.

    int16 Hounsfield units with slope 1 and intercept 0, MONOCHROME2, Explicit VR Little Endian. Same slice
    and key: same bytes.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    patient = pseudonyms.patient(identity)
    dataset = Dataset()
    dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = pseudonyms.uid(identity.sop_uid)
    dataset.StudyInstanceUID = pseudonyms.uid(identity.study_uid)
    dataset.SeriesInstanceUID = pseudonyms.uid(identity.series_uid)
    frame_of_reference = identity.frame_of_reference_uid or f"{identity.series_uid}#frame of reference"
    dataset.FrameOfReferenceUID = pseudonyms.uid(frame_of_reference)
    dataset.Modality = "CT"
    dataset.PatientName = patient
    dataset.PatientID = patient
    # type 2 (PS3.3 A.3): must be there, may be empty
    for keyword in (
        "PatientBirthDate StudyDate StudyTime AccessionNumber ReferringPhysicianName StudyID SeriesNumber "
        "PositionReferenceIndicator AcquisitionNumber"
    ).split():
        setattr(dataset, keyword, "" if keyword not in ("SeriesNumber", "AcquisitionNumber") else None)
    dataset.InstanceNumber = facts.instance_number
    dataset.PatientSex = facts.sex
    if facts.age_years is not None:
        dataset.PatientAge = _format_age(facts.age_years)
    dataset.Manufacturer = facts.manufacturer
    if facts.scanner_model:
        dataset.ManufacturerModelName = facts.scanner_model
    if facts.convolution_kernel:
        dataset.ConvolutionKernel = facts.convolution_kernel
    dataset.KVP = _decimal(facts.tube_voltage_kv)
    dataset.SliceThickness = _decimal(facts.slice_thickness_mm)
    if facts.row_spacing_mm and facts.column_spacing_mm:
        dataset.PixelSpacing = [_decimal(facts.row_spacing_mm), _decimal(facts.column_spacing_mm)]
    if facts.position_mm:
        dataset.ImagePositionPatient = [_decimal(value) for value in facts.position_mm]
    if facts.orientation:
        dataset.ImageOrientationPatient = [_decimal(value) for value in facts.orientation]
    if facts.slice_position_mm is not None:
        dataset.SliceLocation = _decimal(facts.slice_position_mm)
    if facts.window:
        dataset.WindowCenter, dataset.WindowWidth = map(_decimal, facts.window)
    dataset.LossyImageCompression = "01" if facts.lossy else "00"
    _declare_deidentified(dataset)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = hounsfield.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "HU"
    dataset.add_new("PixelData", "OW", hounsfield.astype("<i2").tobytes())
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _declare_deidentified(dataset: "Dataset") -> None:
    from pydicom.dataset import Dataset

    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.DeidentificationMethod = list(METHOD)
    items = []
    for value, meaning in CODES:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.DeidentificationMethodCodeSequence = items


def _format_age(years: float) -> str:
    if years >= 2:
        return f"{int(years):03d}Y"
    return f"{round(years * 12):03d}M" if years >= 0.25 else f"{round(years * 365.25):03d}D"


def _decimal(value: float | None) -> str:
    # DS has at most 16 characters (PS3.5 6.2)
    return "" if value is None else f"{value:.9g}"
