"""The one form in which slices are written: a new, de-identified CT Image of int16 Hounsfield units."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tumorflow.ingestion.deidentification import Facts
from tumorflow.ingestion.pseudonyms import Identity, Pseudonyms

if TYPE_CHECKING:
    from pydicom import Dataset

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
EMPTY_TAGS = (
    "PatientBirthDate",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "SeriesNumber",
    "PositionReferenceIndicator",
    "AcquisitionNumber",
)
"""Type 2 (DICOM PS3.3 A.3): must be there, may be empty."""


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
    for keyword in EMPTY_TAGS:
        setattr(dataset, keyword, None)
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
    _write_geometry(dataset, facts)
    dataset.LossyImageCompression = "01" if facts.lossy else "00"
    _declare_deidentified(dataset)
    _write_pixels(dataset, hounsfield)
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


def _write_geometry(dataset: "Dataset", facts: Facts) -> None:
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


def _write_pixels(dataset: "Dataset", hounsfield: npt.NDArray[np.int16]) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = hounsfield.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "HU"
    dataset.add_new("PixelData", "OW", hounsfield.astype("<i2").tobytes())
