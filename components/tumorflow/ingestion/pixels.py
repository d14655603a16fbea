"""Pixel Data to Hounsfield units, one frame at a time, with every size checked before a decoder sees it."""

import struct
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SliceError
from tumorflow.ingestion.header import malformed, read_count, read_number, read_text
from tumorflow.native_output import STDERR, captured_output
from tumorflow.slices import to_hounsfield

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import Decoder

AIR_HU = -1024
# In this order; RLE by pydicom's own Python alone, as pylibjpeg's panics on broken segments.
DECODERS = ("pylibjpeg", "pillow", "gdcm")
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))  # TEM, RST
RLE_SLACK = 2
EXPORT_AGAIN = "Export it again from the archive, uncompressed if possible."


def decode_frame(dataset: "Dataset", frame: int, frames: int) -> npt.NDArray[np.integer]:
    """Returns one frame's stored values, (rows, columns), sign-extended from BitsStored (DICOM PS3.5 8.1.1).

    Raises:
        SliceError: the transfer syntax is unknown, or the pixels are truncated, corrupt or of another size.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        _check_codestream(dataset, frame, frames)
    else:
        _check_length(dataset, frames)
    pixels = _decode(dataset, frame if frames > 1 else None)
    if pixels.shape != (rows, columns):
        raise SliceError(
            "conflicting_size",
            f"The decoded pixels have another shape than Rows and Columns: {pixels.shape}.",
            EXPORT_AGAIN,
        )
    # Retired overlays were kept in the bits above BitsStored (PS3.5 8.1.2).
    unused_bits = 8 * pixels.itemsize - int(dataset.BitsStored)
    if syntax.is_encapsulated or not unused_bits:
        return pixels
    shifted: npt.NDArray[np.integer] = (pixels << unused_bits) >> unused_bits
    return shifted


def _decode(dataset: "Dataset", index: int | None) -> npt.NDArray[np.integer]:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise SliceError(
            "unsupported_transfer_syntax",
            f"No decoder is known for transfer syntax {_name(str(syntax))}.",
            "Convert it to Explicit VR Little Endian.",
        ) from error
    if syntax == RLELossless:
        plugins = ["pydicom"]
    elif syntax.is_encapsulated:
        plugins = [name for name in DECODERS if name in decoder.available_plugins]
    else:
        plugins = [""]
    failure: Exception | None = None
    for plugin in plugins:
        with captured_output(STDERR) if syntax.is_encapsulated else nullcontext() as log:
            try:
                decoded = _decode_by(decoder, dataset, index, plugin)
            except malformed() as error:
                failure = error
                continue
            said = log.read_bytes() if log else b""
        if b"Corrupt JPEG" in said:
            break  # the library fills what it cannot decode, and only mentions it
        return decoded
    raise SliceError("undecodable_pixels", "The pixels cannot be decoded.", EXPORT_AGAIN) from failure


def _decode_by(
    decoder: "Decoder", dataset: "Dataset", index: int | None, plugin: str
) -> npt.NDArray[np.integer]:
    pixels: npt.NDArray[np.integer] = decoder.as_array(
        dataset, index=index, raw=True, decoding_plugin=plugin
    )[0]
    return pixels


def _name(syntax: str) -> str:
    # a broken UID may hold anything: only the standard's own are repeated
    return syntax if syntax.startswith("1.2.840.10008.1.2") and len(syntax) < 32 else "(not DICOM's)"


def _check_length(dataset: "Dataset", frames: int) -> None:
    row_bytes = int(dataset.Columns) * (int(dataset.BitsAllocated) // 8)
    expected = int(dataset.Rows) * row_bytes * frames
    received = len(dataset.PixelData)
    if received < expected:
        raise SliceError(
            "truncated_pixels", f"Pixel Data has {received} bytes and {expected} are needed.", EXPORT_AGAIN
        )
    # some writers pad; a whole row too many means that Rows or Columns is wrong
    if received - expected >= max(row_bytes, 2):
        raise SliceError(
            "conflicting_size",
            f"Pixel Data has {received} bytes where Rows and Columns ask for {expected}.",
            EXPORT_AGAIN,
        )


def _check_codestream(dataset: "Dataset", frame: int, frames: int) -> None:
    """Refuses a frame whose compressed stream announces another size, before memory is given to it."""
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    try:
        stream = get_frame(dataset.PixelData, frame, number_of_frames=frames)
        if dataset.file_meta.TransferSyntaxUID == RLELossless:
            _check_rle(stream, int(dataset.Rows) * int(dataset.Columns))
            return
        announced = parse_codestream_size(stream)
        ended = b"\xff\xd9" in stream.rstrip(b"\0")[-4:]  # a byte of padding may follow
    except malformed() as error:
        raise SliceError(
            "truncated_pixels", "A compressed frame is cut off or missing.", EXPORT_AGAIN
        ) from error
    if announced is None:
        raise SliceError("undecodable_pixels", "A compressed frame has no frame header.", EXPORT_AGAIN)
    if not ended:
        raise SliceError("truncated_pixels", "A compressed frame has no end marker.", EXPORT_AGAIN)
    rows, columns, components = announced
    if (rows, columns) != (int(dataset.Rows), int(dataset.Columns)) or components != 1:
        raise SliceError(
            "conflicting_size",
            f"The compressed stream announces {rows} × {columns} × {components}, not Rows × Columns × 1.",
            EXPORT_AGAIN,
        )


def _check_rle(stream: bytes, pixels: int) -> None:
    """Refuses an RLE frame whose segments unpack to far more than its pixels (DICOM PS3.5 G.3, G.5)."""
    count, *offsets = struct.unpack_from("<16L", stream)
    ends = [*offsets[1:count], len(stream)]
    for start, end in zip(offsets[:count], ends, strict=False):
        if measure_rle_segment(stream[start:end], RLE_SLACK * pixels) > RLE_SLACK * pixels:
            raise SliceError(
                "conflicting_size", "A compressed frame unpacks to more than Rows × Columns.", EXPORT_AGAIN
            )


def measure_rle_segment(segment: bytes, limit: int) -> int:
    """Returns how many bytes a segment unpacks to, or a number above `limit` as soon as it is."""
    total = position = 0
    while position < len(segment) and total <= limit:
        head = segment[position]
        if head < 128:  # as many bytes follow, and one more
            total += head + 1
            position += head + 2
        else:  # the next one is repeated; 128 says nothing
            total += 257 - head if head > 128 else 0
            position += 2 if head > 128 else 1
    return total


def parse_codestream_size(stream: bytes) -> tuple[int, int, int] | None:
    """Returns (rows, columns, components) announced by a JPEG, JPEG-LS or JPEG 2000 stream; None if none is.

    ISO/IEC 10918-1 B.2.2 (SOF), ISO/IEC 14495-1 C.2.2 (SOF55), ISO/IEC 15444-1 A.5.1 (SIZ), I.4 (boxes).
    """
    start = _find_codestream(stream)
    if stream[start : start + 4] == b"\xff\x4f\xff\x51":
        right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
        (components,) = struct.unpack_from(">H", stream, start + 40)
        return bottom - top, right - left, components
    if not stream.startswith(b"\xff\xd8"):
        return None
    position = 2
    while position + 4 <= len(stream):
        if stream[position] != 0xFF:
            return None
        marker = stream[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in WITHOUT_LENGTH:
            position += 2
            continue
        if marker in START_OF_FRAME:
            _, _, rows, columns, components = struct.unpack_from(">HBHHB", stream, position + 2)
            return rows, columns, components
        if marker == 0xDA:
            return None
        (length,) = struct.unpack_from(">H", stream, position + 2)
        position += 2 + length
    return None


def _find_codestream(stream: bytes) -> int:
    """Returns where a JPEG 2000 codestream begins: behind the boxes of a JP2 file, where it has such."""
    position = 0
    while stream[4:8] == b"jP  " and position + 8 <= len(stream):
        length, kind = struct.unpack_from(">I4s", stream, position)
        if kind == b"jp2c":
            return position + (16 if length == 1 else 8)
        if length == 1:
            (length,) = struct.unpack_from(">Q", stream, position + 8)
        if length < 8:
            break
        position += length
    return 0


def rescale(
    stored: npt.NDArray[np.integer], dataset: "Dataset", transformation: "Dataset"
) -> npt.NDArray[np.int16]:
    """Returns stored values as Hounsfield units, padding as air.

    `transformation` holds the rescale: the dataset itself, or a frame's Pixel Value Transformation item.
    MONOCHROME1 changes nothing: it says how values are shown, and Hounsfield units come from the Modality
    LUT, which is applied before that (DICOM PS3.3 C.11.1, C.7.6.3.1.2; PS3.4 N.2).

    Raises:
        SliceError: rescale slope or intercept is missing or impossible, or the unit is not HU.
    """
    slope = read_number(transformation, "RescaleSlope", -1e4, 1e4)
    intercept = read_number(transformation, "RescaleIntercept", -1e5, 1e5)
    if slope is None or intercept is None or slope <= 0:
        raise SliceError(
            "missing_rescale",
            "Rescale Slope (0028,1053) or Intercept (0028,1052) is missing or impossible.",
            "Without it, values are no Hounsfield units: export the original series.",
        )
    # US, unspecified, is what converters write for plain CT (PS3.3 C.11.1.1.2)
    if read_text(transformation, "RescaleType").upper() not in ("", "HU", "HU_MOD", "US"):
        raise SliceError(
            "not_hounsfield",
            "Rescale Type (0028,1054) is not HU.",
            "Use the original reconstruction, not a material or density map.",
        )
    hounsfield = to_hounsfield(stored, slope, intercept)
    padding = _padding_mask(stored, dataset)
    return hounsfield if padding is None else np.where(padding, np.int16(AIR_HU), hounsfield)


def _padding_mask(stored: npt.NDArray[np.integer], dataset: "Dataset") -> npt.NDArray[np.bool_] | None:
    """Returns where pixels are padding (DICOM PS3.3 C.7.5.1.1.2); None if the header names no padding."""
    first = _padding_value(dataset, "PixelPaddingValue", stored.dtype)
    if first is None:
        return None
    last = _padding_value(dataset, "PixelPaddingRangeLimit", stored.dtype)
    low, high = sorted((first, first if last is None else last))
    mask: npt.NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return mask


def _padding_value(dataset: "Dataset", keyword: str, dtype: np.dtype[np.integer]) -> int | None:
    value = read_number(dataset, keyword, -(2**16), 2**16)
    if value is None:
        return None
    # US or SS: some writers take the wrong one of the two
    bits = 8 * dtype.itemsize
    wrapped: int = int(value) % 2**bits
    return wrapped - 2**bits if dtype.kind == "i" and wrapped >= 2 ** (bits - 1) else wrapped


def check_pixel_module(dataset: "Dataset", frames: int, max_pixels: int) -> None:
    """Checks the Image Pixel module (DICOM PS3.3 C.7.6.3) without touching the pixels.

    Raises:
        SliceError: no pixels, too many, not grey, or a layout that CT does not use.
    """
    rows, columns = read_count(dataset, "Rows", 0), read_count(dataset, "Columns", 0)
    if rows < 1 or columns < 1 or frames < 1:
        raise SliceError("not_an_image", "Rows, Columns or frames are missing or zero.", "Remove the file.")
    if rows * columns > max_pixels or rows * columns * frames > 64 * max_pixels:
        raise SliceError(
            "too_large",
            f"The image has {rows} × {columns} pixels in {frames} frame(s); at most {max_pixels} a frame are "
            "decoded.",
            "Raise ingest.max_pixels if the image is genuine.",
        )
    samples = read_count(dataset, "SamplesPerPixel", 1)
    if samples != 1 or read_text(dataset, "PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        raise SliceError(
            "not_grey", "The image is in colour: it holds no Hounsfield units.", "Export the original series."
        )
    allocated, stored = read_count(dataset, "BitsAllocated", 0), read_count(dataset, "BitsStored", 0)
    signed = read_count(dataset, "PixelRepresentation", 0)
    high_bit = read_count(dataset, "HighBit", stored - 1)
    if (
        allocated not in (8, 16)
        or not 1 <= stored <= allocated
        or signed not in (0, 1)
        or high_bit != stored - 1
    ):
        raise SliceError(
            "unsupported_pixels",
            f"Bits allocated, stored and high bit are {allocated}, {stored} and {high_bit}; CT has 8 or 16 "
            "allocated, and a high bit one below the stored.",
            EXPORT_AGAIN,
        )
