"""What is in a source: its files in a stable order, their kind, and the class a folder names."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tumorflow.errors import SliceError, SourceError

Kind = Literal["dicom", "images"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
SIDECAR_SUFFIXES = frozenset(
    {".csv", ".tsv", ".xml", ".txt", ".json", ".md", ".rst", ".html", ".htm", ".pdf", ".yaml", ".yml"}
    | {".xls", ".xlsx", ".doc", ".docx", ".log", ".ini", ".inf", ".dvc", ".sha256", ".md5"}
)
SIDECAR_NAMES = frozenset(
    {"readme", "license", "licence", "copying", "changelog", "thumbs.db", "desktop.ini"}
)
# Only these are repeated in the quarantine list: any other suffix may be part of a name (`DOE.JANE`).
KNOWN_SUFFIXES = IMAGE_SUFFIXES | {".dcm", ".dicom", ".ima", ".dic", ".gz", ".zip", ".nii", ".nrrd", ".seg"}


@dataclass(frozen=True)
class SourceFile:
    """One file of a source; `position` is its place in the sorted listing of all files."""

    position: int
    path: Path
    relative: PurePosixPath

    @property
    def name(self) -> str:
        """The only name by which the file is ever spoken of: position and known extension."""
        suffix = self.path.suffix.lower()
        return f"{self.position:06d}{suffix if suffix in KNOWN_SUFFIXES else ''}"

    @property
    def is_sidecar(self) -> bool:
        """Whether the file is plainly no image, so that leaving it out is no loss."""
        name = self.path.name.lower()
        return (
            name.startswith(("dicomdir", "."))
            or name in SIDECAR_NAMES
            or self.path.suffix.lower() in SIDECAR_SUFFIXES
        )


def list_files(root: Path) -> list[SourceFile]:
    """Returns every file below `root`, sorted by the bytes of its relative path.

    Symbolic links are followed; a folder is entered once, so loops end.

    Raises:
        SourceError: there is no folder at `root`, it cannot be read, or it holds no file.
    """
    # The path itself is not repeated: a folder may be called after a patient.
    if not root.is_dir():
        raise SourceError(
            "The source is a folder of DICOM files or images. Received: a path with "
            f"{'a file' if root.exists() else 'nothing'} at it. Check --source."
        )
    paths = sorted((_relative(path, root) for path in _walk(root)), key=os.fsencode)
    if not paths:
        raise SourceError("The source holds files. Received: an empty or unreadable folder. Check --source.")
    return [
        SourceFile(position, root / relative, PurePosixPath(relative))
        for position, relative in enumerate(paths)
    ]


def _relative(path: str, root: Path) -> str:
    return os.path.relpath(path, root)


def _walk(root: Path) -> Iterator[str]:
    entered: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        yield from (f"{folder}/{name}" for name in files)


def check_readable(file: SourceFile) -> int:
    """Returns the size of a regular file in bytes.

    Raises:
        SliceError: it is empty, no regular file, or cannot be read.
    """
    try:
        status = file.path.stat()
    except (OSError, ValueError) as error:
        raise SliceError(
            "unreadable", "The file cannot be reached.", "Check the link's target and the permissions."
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise SliceError("not_a_file", "The entry is a device, pipe or socket.", "Remove it from the source.")
    if status.st_size == 0:
        raise SliceError("empty_file", "The file has no content.", "Export or copy it again.")
    if not os.access(file.path, os.R_OK):
        raise SliceError("unreadable", "The file may not be read.", "Give the pipeline's user permission.")
    return status.st_size


def detect_kind(files: Sequence[SourceFile]) -> Kind:
    """Returns `images` if more than half of the files are named as images, else `dicom`."""
    images = sum(file.path.suffix.lower() in IMAGE_SUFFIXES for file in files)
    return "images" if 2 * images > len(files) else "dicom"


def find_class(name: str, classes: Sequence[str], class_folders: Mapping[str, str]) -> str:
    """Returns the class that `name` stands for, whatever its case; empty if it stands for none."""
    known = {label.casefold(): label for label in classes}
    known |= {folder.strip().casefold(): label for folder, label in class_folders.items()}
    return known.get(name.strip().casefold(), "")


def label_by_folder(relative: PurePosixPath, classes: Sequence[str], class_folders: Mapping[str, str]) -> str:
    """Returns the class named by the first folder on the path that names one; empty if none does."""
    labels = (find_class(folder, classes, class_folders) for folder in relative.parts[:-1])
    return next(filter(None, labels), "")
