"""Reading one slice of a `dataset` artifact as an array of intensities."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SliceError

Intensities = npt.NDArray[np.int16] | npt.NDArray[np.uint8]


def to_hounsfield(stored: npt.NDArray[np.integer], slope: float, intercept: float) -> npt.NDArray[np.int16]:
    """Returns stored values as Hounsfield units, int16 of the same shape, rounded and kept in range.

    DICOM PS3.3 C.11.1.1.2: output = slope × stored + intercept.
    """
    limits = np.iinfo(np.int16)
    if slope == 1 and float(intercept).is_integer():
        units = stored.astype(np.int32) + np.int32(intercept)
    else:
        units = np.rint(stored.astype(np.float64) * slope + intercept)
    clipped: npt.NDArray[np.int16] = np.clip(units, limits.min, limits.max).astype(np.int16)
    return clipped


def hash_intensities(intensities: Intensities) -> str:
    """Returns the content hash of a slice as 64 hexadecimal digits.

    SHA-256 of rows and columns as two little-endian int64, then of the pixels, little-endian in C order.
    """
    digest = hashlib.sha256(np.asarray(intensities.shape, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(intensities, dtype=intensities.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def read_intensities(path: Path) -> Intensities:
    """Returns the slice in a file that ingestion wrote: (rows, columns), int16 HU or uint8 display grey.

    Raises:
        SliceError: the file cannot be decoded.
    """
    try:
        if path.suffix == ".png":
            return _read_png(path)
        return _read_dicom(path)
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        raise SliceError(
            "unreadable_slice",
            f"A slice of the dataset can be decoded. Received: {type(error).__name__} for {path.name}.",
            "Run ingestion again.",
        ) from error


def _read_png(path: Path) -> npt.NDArray[np.uint8]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError("no PNG image")
    return np.asarray(image, dtype=np.uint8)


def _read_dicom(path: Path) -> npt.NDArray[np.int16]:
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        dataset = pydicom.dcmread(path)
        return to_hounsfield(
            dataset.pixel_array, float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
        )
    except (BytesLengthException, InvalidDicomError, LookupError, TypeError, EOFError) as error:
        raise ValueError("no CT image") from error
