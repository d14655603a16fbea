"""The label file: a CSV that names the class of a patient, a series, a folder or a file.

Messages name rows, never values: a label file may hold names.
"""

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tumorflow.errors import SourceError
from tumorflow.ingestion.sources import find_class

KEYS = ("path", "series_uid", "patient_id")
MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class LabelFile:
    """(column, key) → (class, row number)."""

    entries: Mapping[tuple[str, str], tuple[str, int]] = field(default_factory=dict)

    def find(self, relative: PurePosixPath, series_uid: str, patient_id: str) -> tuple[str, int]:
        """Returns the class of a file and the row that names it; ("", 0) where no row does.

        The nearest path wins: a file's own row goes before its folder's.

        Raises:
            SourceError: a path, series or patient row names another class for the same file.
        """
        path = PurePosixPath(unicodedata.normalize("NFC", str(relative)))
        near = [str(path), *(str(folder) for folder in path.parents)]
        found = [self.entries[("path", key)] for key in near if ("path", key) in self.entries][:1]
        others = (("series_uid", series_uid.strip()), ("patient_id", patient_id.strip()))
        found += [self.entries[key] for key in others if key in self.entries]
        if len({label for label, _ in found}) > 1:
            rows = " and ".join(str(row) for _, row in found)
            raise SourceError(
                f"One slice has one class. Received: rows {rows} of the label file name different classes "
                "for the same file. Correct one of them."
            )
        return found[0] if found else ("", 0)


def read_labels(path: Path, classes: Sequence[str], class_folders: Mapping[str, str]) -> LabelFile:
    """Returns the label file at `path`: UTF-8; comma, semicolon or tab; header in any case.

    Raises:
        SourceError: it is missing, malformed, names an unknown class, or contradicts itself.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SourceError(
                f"The label file has at most {MAX_BYTES} bytes. Received: more. Check its path."
            )
        text = path.read_bytes().decode("utf-8-sig")
        return parse_labels(text, classes, class_folders)
    except OSError as error:
        raise SourceError(
            f"The label file can be read. Received: {type(error).__name__}. "
            "Check ingest.labels, which is relative to the source."
        ) from error
    except UnicodeDecodeError as error:
        raise SourceError(
            f"The label file is written in UTF-8. Received: another encoding at byte {error.start}. "
            "Save it as CSV UTF-8."
        ) from None  # the cause carries the file's bytes
    except csv.Error:
        raise SourceError(
            "The label file is a CSV table. Received: text that cannot be read as one. Check its quotes."
        ) from None


def parse_labels(text: str, classes: Sequence[str], class_folders: Mapping[str, str]) -> LabelFile:
    """Returns the entries of a label file's text. Raises SourceError as `read_labels` does."""
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    header = [name.strip().lower() for name in next(rows, [])]
    keys = [name for name in KEYS if name in header]
    if "label" not in header or not keys or len(set(header)) < len(header):
        raise SourceError(
            "The label file has a column 'label' and at least one of 'patient_id', 'path', 'series_uid', "
            f"each once. Received: {len(header)} columns in the first row, with "
            f"{', '.join(name for name in ('label', *KEYS) if name in header) or 'none of these'}."
        )
    entries: dict[tuple[str, str], tuple[str, int]] = {}
    for values in rows:
        if not any(value.strip() for value in values):
            continue
        number = rows.line_num
        if len(values) != len(header):
            raise SourceError(
                f"Each row of the label file has {len(header)} values. Received: {len(values)} in row "
                f"{number}. Quote values that hold a '{delimiter}'."
            )
        row = {name: value.strip() for name, value in zip(header, values, strict=True)}
        label = find_class(row["label"], classes, class_folders)
        if not label:
            raise SourceError(
                f"A label is one of {', '.join(classes)} (or of ingest.class_folders). Received: another "
                f"value in row {number} of the label file. Correct it, or map it in ingest.class_folders."
            )
        named = [(key, row[key]) for key in keys if row[key]]
        if not named:
            raise SourceError(
                f"A row of the label file names a {' or a '.join(keys)}. Received: none in row {number}."
            )
        # a row with several keys speaks of the most specific one: a patient may have many series
        column, value = named[0]
        key = (column, _normal_path(value, number) if column == "path" else value)
        known, before = entries.setdefault(key, (label, number))
        if known != label:
            raise SourceError(
                f"One {column} has one class. Received: different ones in rows {before} and {number} of the "
                "label file. Correct one of them."
            )
    if not entries:
        raise SourceError("The label file has rows below its header. Received: none.")
    return LabelFile(entries)


def _normal_path(value: str, number: int) -> str:
    path = PurePosixPath(unicodedata.normalize("NFC", value.replace("\\", "/")))
    if path.is_absolute() or ".." in path.parts:
        raise SourceError(
            f"A path in the label file is relative to the source. Received: another one in row {number}."
        )
    return str(path)
