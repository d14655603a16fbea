"""What was sent, as files on disk that are spoken of by number: names may be a patient's."""

import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tumorflow.errors import SliceError
from tumorflow.ingestion.sources import SourceFile
from tumorflow.serving.problems import ProblemError
from tumorflow.serving.settings import Limits

ARCHIVE = b"PK\x03\x04"
EMPTY_ARCHIVE = b"PK\x05\x06"
LARGEST_DIRECTORY = 2**20
"""Bytes of an archive's list of entries, which is read as a whole and takes ten times as much memory."""
COMMENT = 2**16
CHUNK = 2**20
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Kinds of compression that zipfile undoes piece by piece; of bzip2 and LZMA a few bytes fill the memory."""
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
)
"""What zipfile raises on archives that are cut off or malformed."""
IMAGE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Stored:
    """One file of a request; `number` is its place, from 1, archives counting by their entries."""

    number: int
    path: Path
    size: int
    is_image: bool


@dataclass(frozen=True)
class Refused:
    """One file of a request that cannot be used, and why."""

    file: int
    rule: str
    reason: str
    remedy: str

    @classmethod
    def of(cls, file: int, error: SliceError) -> "Refused":
        """Returns the refusal that an error tells."""
        return cls(file, error.rule, error.reason, error.remedy)


@dataclass
class Budget:
    """How many bytes may still be written, whatever becomes of them."""

    left: int

    def take(self, count: int) -> None:
        """Takes as many.

        Raises:
            ProblemError: there are fewer.
        """
        if count > self.left:
            raise ProblemError(
                413,
                "too_large",
                "The files of a request hold a limited number of bytes. Received: more than the "
                f"{self.left} that are left. Send the series one by one.",
            )
        self.left -= count


def is_archive(body: BinaryIO) -> bool:
    """Returns whether a file begins as zip archives do."""
    body.seek(0)
    head = body.read(4)
    body.seek(0)
    return head.startswith((ARCHIVE, EMPTY_ARCHIVE))


def store(bodies: Sequence[BinaryIO], folder: Path, limits: Limits) -> Iterator[Stored | Refused]:
    """Yields each file of a request, written to `folder`; its reader removes it.

    Raises:
        ProblemError: there are more files, or more bytes in the archives, than are taken.
    """
    numbers = iter(range(1, limits.files + 1))
    unpacked = Budget(limits.unpacked_bytes)
    for body in bodies:
        if not is_archive(body):
            yield _keep(body, _next(numbers, limits), folder, Budget(limits.body_bytes))
            continue
        try:
            for entry in _open_archive(body, limits):
                number = _next(numbers, limits)
                if entry is None:
                    yield Refused.of(number, _broken())
                    continue
                try:
                    yield _keep(entry, number, folder, unpacked)
                except BROKEN:
                    yield Refused.of(number, _broken())
        except SliceError as error:
            yield Refused.of(_next(numbers, limits), error)


def refuse_more_files(limits: Limits) -> ProblemError:
    """Returns the problem of a request with too many files."""
    return ProblemError(
        413, "too_many_files", f"A request has at most {limits.files} files. Received: more. Send fewer."
    )


def _next(numbers: Iterator[int], limits: Limits) -> int:
    number = next(numbers, None)
    if number is None:
        raise refuse_more_files(limits)
    return number


def _keep(body: BinaryIO, number: int, folder: Path, budget: Budget) -> Stored:
    path = folder / f"{uuid.uuid4().hex}-{number}"
    size, head = 0, b""
    try:
        with path.open("wb") as file:
            while chunk := body.read(CHUNK):
                head = head or chunk[:8]
                size += len(chunk)
                budget.take(len(chunk))
                file.write(chunk)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Stored(number, path, size, head.startswith(IMAGE_STARTS))


def _open_archive(body: BinaryIO, limits: Limits) -> Iterator[BinaryIO | None]:
    """Yields the files of an archive that may be slices, in the order of their names; None: a broken one.

    Raises:
        SliceError: it is no archive that can be read.
        ProblemError: it has too many entries.
    """
    _check_directory(body)
    try:
        archive = zipfile.ZipFile(body)
    except (*BROKEN, OSError) as error:  # OSError: a place before the file's beginning
        raise _broken() from error
    with archive:
        entries = [entry for entry in archive.infolist() if _may_be_slice(entry)]
        if not entries:
            raise SliceError(
                "empty_archive", "The archive holds no file that may be a slice.", "Pack a series' files."
            )
        if len(entries) > limits.files:
            raise refuse_more_files(limits)
        for entry in sorted(entries, key=lambda entry: entry.filename):
            if entry.compress_type not in BOUNDED:
                raise SliceError(
                    "packed_otherwise",
                    "The archive is packed in another way than by deflate.",
                    "Pack it again as zip tools do by themselves.",
                )
            if entry.flag_bits & 0x1:
                raise SliceError(
                    "encrypted_archive", "The archive is encrypted.", "Pack it without password."
                )
            try:
                opened = archive.open(entry)
            except (*BROKEN, OSError):  # OSError: a place before the file's beginning
                yield None
                continue
            with opened:
                yield opened  # type: ignore[misc]  # typed as IO[bytes]


def _check_directory(body: BinaryIO) -> None:
    """Refuses an archive whose list of entries would fill the memory (APPNOTE 4.3.16, 4.3.15)."""
    body.seek(0, 2)
    start = max(0, body.tell() - COMMENT - 22 - 20)
    body.seek(start)
    tail = body.read()
    body.seek(0)
    end = tail.rfind(EMPTY_ARCHIVE)
    if end < 0 or len(tail) < end + 22:
        raise _broken()
    (size,) = struct.unpack_from("<L", tail, end + 12)
    if b"PK\x06\x07" in tail[max(0, end - 20) : end] or size > LARGEST_DIRECTORY:
        raise SliceError("too_large", "The archive is larger than are read.", "Send the series one by one.")


def _may_be_slice(entry: zipfile.ZipInfo) -> bool:
    if not entry.filename or entry.is_dir():
        return False
    name = PurePosixPath(entry.filename)
    return "__MACOSX" not in name.parts and not SourceFile(0, Path(name.name), name).is_sidecar


def _broken() -> SliceError:
    return SliceError("broken_archive", "The zip archive is cut off or malformed.", "Pack it again.")
