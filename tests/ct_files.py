"""A small generator of CT files, full of identifiers on purpose."""

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

IDENTIFIERS = (b"DOE^JANE", b"DOE", b"JANE", b"MRN-778899", b"778899", b"Saint Elsewhere", b"Elsewhere")
IDENTIFIERS += (b"19500214", b"20240503", b"HOUSE", b"ACC-4455", b"SECRET", b"1.2.826.0.1.999")


def build_ct(pixels: np.ndarray | None = None, number: int = 1, **changes: Any) -> Dataset:
    if pixels is None:
        pixels = (np.arange(16 * 12, dtype=np.int16).reshape(16, 12) * 7 + number) % 2000
    root = "1.2.826.0.1.999"
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{root}.3.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{root}.1", f"{root}.2"
    ds.FrameOfReferenceUID = f"{root}.4"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Modality = "CT"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "DOE^JANE", "MRN-778899", "19500214"
    ds.StudyDate, ds.AccessionNumber, ds.ReferringPhysicianName = "20240503", "ACC-4455", "HOUSE^GREGORY"
    ds.InstitutionName = "Saint Elsewhere"
    ds.StudyDescription = "SECRET study of JANE"
    ds.PatientSex, ds.PatientAge = "F", "074Y"
    ds.Manufacturer, ds.ManufacturerModelName = "GE MEDICAL SYSTEMS", "LightSpeed16"
    ds.ConvolutionKernel, ds.KVP, ds.SliceThickness = "STANDARD", "120", "2.5"
    ds.PixelSpacing = ["0.7", "0.8"]
    ds.ImagePositionPatient = ["-10", "-20", str(number * 2.5)]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.InstanceNumber = number
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, int(pixels.dtype.kind == "i")
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
    private = ds.private_block(0x0011, "SECRET", create=True)
    private.add_new(1, "LO", "DOE^JANE")
    ds.add_new((0x6000, 0x4000), "LT", "overlay of DOE^JANE")
    item = Dataset()
    item.ReferencedSOPInstanceUID = f"{root}.9"
    ds.ReferencedImageSequence = [item]
    ds.add_new("PixelData", "OW", pixels.astype(f"<{pixels.dtype.kind}2").tobytes())
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CTImageStorage)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID") or "1.2.3"
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def encode_ct(*args: Any, **changes: Any) -> bytes:
    file = io.BytesIO()
    build_ct(*args, **changes).save_as(file, enforce_file_format=True)
    return file.getvalue()
