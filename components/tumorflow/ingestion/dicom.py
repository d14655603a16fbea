"""DICOM files to CT slices: what a file is, is checked before anything in it is decoded."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SliceError
from tumorflow.ingestion import deidentification, pixels
from tumorflow.ingestion.deidentification import Facts, Geometry
from tumorflow.ingestion.header import malformed, quiet_reading, read_count, read_text, read_texts
from tumorflow.ingestion.pseudonyms import Identity

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import BaseTag

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CONVERTED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_FILE_BYTES = 2**30
MAX_INFLATED_BYTES = 2**28
PIXEL_DATA = 0x7FE00010
SCREEN_WORDS = ("SCREEN", "CAPTURE", "DOSE", "REPORT", "PROTOCOL")

# fmt: off
IMAGE_TAGS = (
    "SOPClassUID", "ImageType", "Modality", "ConversionType", "BurnedInAnnotation",
    "RecognizableVisualFeatures", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "PlanarConfiguration", "RescaleIntercept",
    "RescaleSlope", "RescaleType", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)
# fmt: on


@dataclass(frozen=True)
class CTSlice:
    """One slice: (rows, columns) int16 HU, and where it lies."""

    hounsfield: npt.NDArray[np.int16]
    geometry: Geometry


class CTFile:
    """A CT file whose header passed every check; its frames are decoded one by one.

    Raises (when made):
        SliceError: the file is no DICOM, no CT image, or must not be used.
    """

    def __init__(self, path: Path, size: int, max_pixels: int) -> None:
        with quiet_reading():
            _check_begins_as_dicom(path, size)
            try:
                with path.open("rb") as file:
                    _check_inflated_size(file, limit=MAX_INFLATED_BYTES)
                    dataset = _read(file, with_pixels=False)
                    form = _find_form(dataset)
                    self.frames = read_count(dataset, "NumberOfFrames", 1)
                    check_is_ct(dataset)
                    pixels.check_pixel_module(dataset, self.frames, max_pixels)
                    if (element := _read_pixel_data(file, dataset, form)) is not None:
                        dataset[PIXEL_DATA] = element
                _complete(dataset)
                self._dataset = dataset
                self._identity = deidentification.read_identity(dataset)
            except malformed() as error:  # an element's value is converted where it is looked at first
                raise SliceError(
                    "malformed_dicom", "The data set is cut off or malformed.", pixels.EXPORT_AGAIN
                ) from error

    @property
    def series_uid(self) -> str:
        """The original Series Instance UID: to find a label, never to be written."""
        return self._identity.series_uid

    @property
    def patient_id(self) -> str:
        """The original Patient ID: to find a label, never to be written."""
        return self._identity.patient_id

    @property
    def original_patient(self) -> str:
        """Whose file it is, as `Pseudonyms.patient` tells patients apart: never to be written."""
        identity = self._identity
        if not identity.patient_id:
            return identity.study_uid
        return f"{identity.issuer}\0{identity.patient_id}"

    def slice(self, frame: int) -> CTSlice:
        """Returns frame number `frame`, from 0.

        Raises:
            SliceError: the frame cannot be decoded, or holds no Hounsfield units.
        """
        dataset = self._dataset
        with quiet_reading():
            try:
                groups = list(_functional_groups(dataset, frame))
                if any(_is_localizer(group) for group in groups):
                    _refuse_localizer()
                transformation = next((group for group in groups if "RescaleSlope" in group), dataset)
                stored = pixels.decode_frame(dataset, frame, self.frames)
                hounsfield = pixels.rescale(stored, dataset, transformation)
                return CTSlice(hounsfield, deidentification.read_geometry(groups))
            except malformed() as error:
                raise _unreadable_frame() from error

    def describe(self, frame: int, geometry: Geometry) -> tuple[Identity, Facts]:
        """Returns whose frame number `frame` is, and what may be kept of its header.

        Args:
            frame: from 0.
            geometry: as its slice has it.

        Raises:
            SliceError: the header cannot be read.
        """
        dataset = self._dataset
        with quiet_reading():
            try:
                groups = list(_functional_groups(dataset, frame))
                lossy = read_text(dataset, "LossyImageCompression") == "01" or _is_lossy(dataset)
                facts = deidentification.read_facts(groups, geometry, self._naming_words, lossy)
            except malformed() as error:
                raise _unreadable_frame() from error
        return self._identity if self.frames == 1 else self._identity.of_frame(frame), facts

    @cached_property
    def _naming_words(self) -> frozenset[str]:
        return deidentification.read_naming_words(self._dataset)


def _unreadable_frame() -> SliceError:
    return SliceError("undecodable_pixels", "The frame cannot be read.", pixels.EXPORT_AGAIN)


def _check_begins_as_dicom(path: Path, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise SliceError("too_large", f"The file has {size} bytes.", f"Split it: {MAX_FILE_BYTES} are read.")
    try:
        with path.open("rb") as file:
            head = file.read(140)
    except OSError as error:
        raise SliceError("unreadable", "The file cannot be read.", "Check its permissions.") from error
    if head[128:132] != b"DICM" and not begins_as_dataset(head, size):
        raise SliceError(
            "not_dicom", "The file does not begin as DICOM does.", "Remove it, or convert it to DICOM."
        )


def begins_as_dataset(head: bytes, size: int) -> bool:
    """Returns whether `head` may be a data set without preamble: an element of group 0002 or 0008.

    Its element must have a known form: two capital letters as VR, or a length that fits into the file.
    """
    if len(head) < 8 or head[:2] not in (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08"):
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    length = int.from_bytes(head[4:8], "little") if head[0] else int.from_bytes(head[4:8], "big")
    return explicit or length < min(size, 4096)


def _check_inflated_size(file: BinaryIO, limit: int) -> None:
    """Inflates a deflated data set piece by piece, keeping nothing, to see that it is no bomb."""
    # what `dcmread` itself does before it inflates, so that a file without a preamble is looked at, too
    from pydicom.filereader import _read_command_set_elements, _read_file_meta_info, read_preamble

    try:
        read_preamble(file, force=True)
        if _read_file_meta_info(file).get("TransferSyntaxUID") != DEFLATED:
            return
        _read_command_set_elements(file)
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated, pending = 0, b""
        while pending or (pending := file.read(2**16)):
            inflated += len(inflater.decompress(pending, 2**20))
            pending = inflater.unconsumed_tail
            if inflated > limit:
                raise SliceError(
                    "too_large", f"The data set inflates to more than {limit} bytes.", "Remove the file."
                )
    except malformed():
        return  # whatever is wrong with it, reading it will tell
    finally:
        file.seek(0)


def _read(file: BinaryIO, with_pixels: bool) -> "Dataset":
    """Returns what a file holds that is looked at; without pixels the file is left where they begin."""
    import pydicom

    with _refusing("truncated_pixels" if with_pixels else "malformed_dicom"):
        return pydicom.dcmread(
            file, force=True, stop_before_pixels=not with_pixels, specific_tags=list(_tags())
        )


def _find_form(header: "Dataset") -> tuple[bool, bool]:
    """Returns whether a header, as it was just read, has implicit VRs, and whether it is little-endian."""
    from pydicom.dataelem import RawDataElement

    raw = next((each for each in header.values() if isinstance(each, RawDataElement)), None)
    return (raw.is_implicit_VR, raw.is_little_endian) if raw else (True, True)


def _read_pixel_data(
    file: BinaryIO, header: "Dataset", form: tuple[bool, bool]
) -> "RawDataElement | DataElement | None":
    """Returns Pixel Data, behind the header that was read from `file`; None: there is none.

    Nothing else that stands there is taken: it would go before what was checked.
    """
    from pydicom.filereader import data_element_generator

    if getattr(header, "file_meta", {}).get("TransferSyntaxUID") == DEFLATED:
        file.seek(0)
        whole = _read(file, with_pixels=True)
        return whole.get_item(PIXEL_DATA) if PIXEL_DATA in whole else None
    with _refusing("truncated_pixels"):
        # `read_dataset` would guess the form anew, and the length of pixels may look like a VR
        elements = data_element_generator(file, *form, specific_tags=[PIXEL_DATA])
        return next((each for each in elements if each.tag == PIXEL_DATA), None)


@cache
def _tags() -> tuple["BaseTag", ...]:
    from pydicom.tag import Tag

    return tuple(Tag(keyword) for keyword in (*IMAGE_TAGS, *deidentification.HEADER_TAGS, "PixelData"))


@contextmanager
def _refusing(rule: str) -> Iterator[None]:
    try:
        yield
    except malformed() as error:
        raise SliceError(rule, "The data set is cut off or malformed.", pixels.EXPORT_AGAIN) from error


def check_is_ct(header: "Dataset") -> None:
    """Checks that a header announces a CT image that may be used.

    Raises:
        SliceError: another object or modality, a localizer, a secondary or marked image.
    """
    meta = getattr(header, "file_meta", {})
    sop_class = read_text(header, "SOPClassUID") or str(meta.get("MediaStorageSOPClassUID", ""))
    modality = read_text(header, "Modality").upper()
    if sop_class == MEDIA_DIRECTORY or (modality != "CT" and "Rows" not in header):
        raise SliceError("not_an_image", "The DICOM object holds no image.", "Remove the file.")
    if modality != "CT":
        raise SliceError("not_ct", "The modality (0008,0060) is missing or not CT.", "Keep CT series only.")
    if "Rows" not in header:
        raise SliceError("not_an_image", "The CT object holds no pixels.", "Export it with its pixels.")
    if read_text(header, "BurnedInAnnotation").upper() == "YES":
        raise SliceError(
            "burned_in",
            "Burned In Annotation (0028,0301) is YES: the pixels may name the patient.",
            "Export the series without annotation.",
        )
    if read_text(header, "RecognizableVisualFeatures").upper() == "YES":
        raise SliceError(
            "recognizable_features",
            "Recognizable Visual Features (0028,0302) is YES: a face may be reconstructed.",
            "Deface the series first.",
        )
    kind = [value.upper() for value in read_texts(header, "ImageType")]
    is_capture = sop_class == SECONDARY_CAPTURE or sop_class.startswith(f"{SECONDARY_CAPTURE}.")
    if is_capture or _is_screen(header, kind):
        raise SliceError(
            "secondary_capture",
            "The image is a secondary capture or derived view: text may be burned into it.",
            "Export the original axial series.",
        )
    if sop_class not in (CT_IMAGE, ENHANCED_CT_IMAGE, LEGACY_CONVERTED_CT_IMAGE):
        raise SliceError("not_ct", "The SOP class is missing or not a CT image.", "Keep CT series only.")
    if _is_localizer(header):
        _refuse_localizer()
    if "PERFUSION" in kind:
        raise SliceError("not_hounsfield", "The image is a perfusion map.", "Use the reconstruction itself.")


def _is_screen(header: "Dataset", kind: list[str]) -> bool:
    # SECONDARY AXIAL is a CT reconstruction made later; anything else SECONDARY is a view of one
    secondary_view = "SECONDARY" in kind[:2] and "AXIAL" not in kind
    return (
        secondary_view
        or bool(read_text(header, "ConversionType"))
        or any(word in value for value in kind for word in SCREEN_WORDS)
    )


def _is_localizer(header: "Dataset") -> bool:
    kinds = (*read_texts(header, "ImageType"), *read_texts(header, "FrameType"))
    return any("LOCALIZER" in value.upper() or "SCOUT" in value.upper() for value in kinds)


def _refuse_localizer() -> NoReturn:
    raise SliceError("localizer", "The image is a localizer.", "Nothing to do: it is left out on purpose.")


def _complete(dataset: "Dataset") -> None:
    """Adds the transfer syntax that a file without File Meta Information was evidently written in."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "PixelData" not in dataset:
        raise SliceError("not_an_image", "The CT object holds no Pixel Data.", "Export it with its pixels.")
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if not read_text(dataset.file_meta, "TransferSyntaxUID"):
        if dataset["PixelData"].is_undefined_length:
            raise SliceError(
                "unsupported_transfer_syntax",
                "The pixels are compressed and no Transfer Syntax (0002,0010) says how.",
                pixels.EXPORT_AGAIN,
            )
        implicit, little = dataset.original_encoding
        explicit_syntax = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit_syntax
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    if not syntax.is_transfer_syntax or syntax.is_private:
        raise SliceError(
            "unsupported_transfer_syntax",
            "The Transfer Syntax (0002,0010) is not DICOM's.",
            "Convert it to Explicit VR Little Endian.",
        )


def _is_lossy(dataset: "Dataset") -> bool:
    from pydicom.uid import HTJ2K, JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

    lossy = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)
    return dataset.file_meta.TransferSyntaxUID in lossy


def _functional_groups(dataset: "Dataset", frame: int) -> Iterator["Dataset"]:
    """Yields where a frame's attributes are looked for: its own groups, the shared ones, the data set.

    DICOM PS3.3 C.7.6.16: in a single-frame image there is the data set only.
    """
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for item in [*per_frame[frame : frame + 1], *shared[:1]]:
        for element in item:
            if element.VR == "SQ" and element.value:
                yield element.value[0]
    yield dataset
