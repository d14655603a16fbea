"""A slice as a CT Image Storage object (DICOM PS3.3 A.3), with the header that a scanner gives.

Names, IDs and dates are invented: de-identification must have something to remove.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tumorflow.sampling.scanners import Acquisition, Scanner

if TYPE_CHECKING:
    from pydicom import Dataset

IMPLEMENTATION_UID = "2.25.231570364177014127186520814273569160912"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
BITS_ALLOCATED = 16


def make_uid(*parts: object) -> str:
    """Returns a UID below 2.25 that the parts determine (DICOM PS3.5 B.2)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def make_slice(  # noqa: PLR0915 - a header is a list
    units: npt.NDArray[np.int16],
    *,
    patient_id: str,
    acquisition: Acquisition,
    seed: int,
    number: int,
    spacing_mm: float,
    increment_mm: float,
    position_mm: tuple[float, float, float],
) -> "Dataset":
    """Returns a slice's data set, ready to be saved.

    Args:
        units: Hounsfield units, (rows, columns).
        patient_id: the invented ID.
        acquisition: scanner, kernel, thickness, sex and age.
        seed: of the cohort; UIDs depend on it.
        number: instance number, from 1.
        spacing_mm: between pixels, both ways.
        increment_mm: between the middles of neighbouring slices.
        position_mm: centre of the first pixel in the patient's coordinates.
    """
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    scanner = acquisition.scanner
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CT_IMAGE_STORAGE
    dataset.SOPInstanceUID = make_uid(seed, patient_id, "instance", number)
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20240115"
    dataset.StudyTime = dataset.ContentTime = "101500"
    dataset.AccessionNumber = f"A{patient_id[3:]}"
    dataset.Modality = "CT"
    dataset.Manufacturer = scanner.manufacturer
    dataset.ManufacturerModelName = scanner.model
    dataset.InstitutionName = "Invented General Hospital"
    dataset.ReferringPhysicianName = "Invented^Referrer"
    dataset.StudyDescription = "CT thorax, synthetic"
    dataset.SeriesDescription = "Synthetic, research only"
    dataset.PatientName = f"Invented^Patient{patient_id[3:]}"
    dataset.PatientID = patient_id
    dataset.PatientBirthDate = f"{2024 - acquisition.age_years}0101"
    dataset.PatientSex = acquisition.sex
    dataset.PatientAge = f"{acquisition.age_years:03}Y"
    dataset.BodyPartExamined = "CHEST"
    dataset.SliceThickness = f"{acquisition.thickness_mm:g}"
    dataset.SpacingBetweenSlices = f"{increment_mm:g}"
    dataset.ReconstructionDiameter = f"{spacing_mm * units.shape[1]:g}"
    dataset.RotationDirection = "CW"
    dataset.ExposureTime = "500"
    dataset.XRayTubeCurrent = "220"
    dataset.GantryDetectorTilt = "0"
    dataset.StationName = "CT-INVENTED"
    dataset.DeviceSerialNumber = f"{len(scanner.model):05}"
    dataset.SoftwareVersions = "1.0"
    dataset.ProtocolName = "Thorax targeted"
    dataset.KVP = str(acquisition.tube_voltage_kv)
    dataset.ConvolutionKernel = scanner.kernel(acquisition.sharpness)
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = make_uid(seed, patient_id, "study")
    dataset.SeriesInstanceUID = make_uid(seed, patient_id, "series")
    dataset.FrameOfReferenceUID = make_uid(seed, patient_id, "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.StudyID = "1"
    dataset.SeriesNumber = "2"
    dataset.AcquisitionNumber = "1"
    dataset.InstanceNumber = str(number)
    dataset.ImagePositionPatient = [f"{value:.4f}" for value in position_mm]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.SliceLocation = f"{position_mm[2]:.4f}"
    dataset.PixelSpacing = [f"{spacing_mm:.6f}"] * 2
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = units.shape
    dataset.BitsAllocated = BITS_ALLOCATED
    dataset.BitsStored = scanner.bits_stored
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(scanner.signed)
    dataset.WindowCenter, dataset.WindowWidth = "-600", "1500"
    dataset.RescaleIntercept, dataset.RescaleSlope = str(scanner.rescale_intercept), "1"
    dataset.RescaleType = "HU"
    dataset.PixelData = store(units, scanner)
    dataset["PixelData"].VR = "OW"

    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(CT_IMAGE_STORAGE)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = (
        ImplicitVRLittleEndian if scanner.implicit_vr else ExplicitVRLittleEndian
    )
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    dataset.file_meta.ImplementationVersionName = "TUMORFLOW"
    return dataset


def store(units: npt.NDArray[np.int16], scanner: Scanner) -> bytes:
    """Returns stored values, 16 bits little-endian: units − intercept, kept in the bits that are stored.

    DICOM PS3.3 C.11.1.1.2, the other way round.
    """
    if scanner.signed:
        lowest, highest = -(1 << (scanner.bits_stored - 1)), (1 << (scanner.bits_stored - 1)) - 1
    else:
        lowest, highest = 0, (1 << scanner.bits_stored) - 1
    values = np.clip(units.astype(np.int32) - scanner.rescale_intercept, lowest, highest)
    return values.astype("<i2" if scanner.signed else "<u2").tobytes()


def save(dataset: "Dataset", path: Path) -> None:
    """Writes a DICOM file with preamble and file meta information (DICOM PS3.10)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
