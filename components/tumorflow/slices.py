"""Reading one slice of a `dataset` artifact as an array of intensities."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SliceError

if TYPE_CHECKING:
    from pydicom import Dataset

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
Intensities = npt.NDArray[np.int16] | npt.NDArray[np.uint8]


def to_hounsfield(stored: npt.NDArray[np.integer], slope: float, intercept: float) -> npt.NDArray[np.int16]:
    """Returns stored values as Hounsfield units, int16 of the same shape, rounded and kept in range.

    DICOM PS3.3 C.11.1.1.2: output = slope × stored + intercept.
    """
    limits = np.iinfo(np.int16)
    if slope == 1 and float(intercept).is_integer() and stored.size:
        low, high = int(stored.min()) + int(intercept), int(stored.max()) + int(intercept)
        if limits.min <= low and high <= limits.max and abs(intercept) <= limits.max:
            # modulo 2**16 is exact here, and four times as fast as going through wider integers
            return stored.astype(np.int16) + np.int16(intercept)
        units = stored.astype(np.int64) + int(intercept)
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


def _stored_values(dataset: "Dataset") -> npt.NDArray[np.integer]:
    """Returns the stored values; ingestion's own form without pydicom's machinery, at a third of the time."""
    canonical = (
        dataset.file_meta.TransferSyntaxUID == EXPLICIT_VR_LITTLE_ENDIAN
        and dataset.BitsAllocated == dataset.BitsStored == 16
        and dataset.PixelRepresentation == 1
        and dataset.SamplesPerPixel == 1
        and len(dataset.PixelData) == 2 * dataset.Rows * dataset.Columns
    )
    if not canonical:
        stored: npt.NDArray[np.integer] = dataset.pixel_array
        return stored
    return np.frombuffer(dataset.PixelData, dtype="<i2").reshape(dataset.Rows, dataset.Columns)


def _read_dicom(path: Path) -> npt.NDArray[np.int16]:
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        dataset = pydicom.dcmread(path)
        return to_hounsfield(
            _stored_values(dataset), float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
        )
    except (BytesLengthException, InvalidDicomError, LookupError, TypeError, EOFError) as error:
        raise ValueError("no CT image") from error
