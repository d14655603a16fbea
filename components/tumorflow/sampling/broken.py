"""Files as archives hold them: broken, empty, misnamed or of another kind. Each must end in quarantine."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tumorflow.sampling.dicom import make_uid, save

if TYPE_CHECKING:
    from pydicom import Dataset

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"


def write_truncated(sound: "Dataset", path: Path) -> None:
    """Writes a slice whose pixels end in the middle, as a broken transfer leaves it."""
    save(_renamed(sound, path.stem), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_text(_sound: "Dataset", path: Path) -> None:
    """Writes a text that only has the name of a DICOM file."""
    path.write_text("This is no DICOM file.\n")


def write_empty(_sound: "Dataset", path: Path) -> None:
    """Writes a file without content."""
    path.write_bytes(b"")


def write_without_rescale(sound: "Dataset", path: Path) -> None:
    """Writes a slice that does not say how stored values become Hounsfield units."""
    dataset = _renamed(sound, path.stem)
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        del dataset[keyword]
    save(dataset, path)


def write_magnetic_resonance(sound: "Dataset", path: Path) -> None:
    """Writes a slice of another modality."""
    from pydicom.uid import UID

    dataset = _renamed(sound, path.stem)
    dataset.Modality = "MR"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(MR_IMAGE_STORAGE)
    save(dataset, path)


def write_copy(sound: "Dataset", path: Path) -> None:
    """Writes a slice a second time, bit by bit, as a repeated export does."""
    save(sound, path)


BROKEN: dict[str, Callable[["Dataset", Path], None]] = {
    "copy": write_copy,
    "truncated": write_truncated,
    "text": write_text,
    "empty": write_empty,
    "without_rescale": write_without_rescale,
    "magnetic_resonance": write_magnetic_resonance,
}


def _renamed(sound: "Dataset", name: str) -> "Dataset":
    """Returns a copy that is an instance of its own."""
    from copy import deepcopy

    dataset = deepcopy(sound)
    dataset.SOPInstanceUID = make_uid(sound.SOPInstanceUID, name)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset
