"""Image files to 8-bit grey slices: no metadata survives, and colour is refused."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SliceError
from tumorflow.ingestion.header import malformed

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MAX_CHANNEL_DIFFERENCE = 16
"""Grey images that were stored as colour JPEG differ by a few levels; annotations in colour by far more."""


def read_grey(path: Path, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Returns an image as (rows, columns) uint8, 0–255, turned as its EXIF orientation says.

    Raises:
        SliceError: no image, too large, truncated, several pages, deeper than 8 bits, or in colour.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=FORMATS) as image:
                _check_header(image.size, image.mode, getattr(image, "n_frames", 1), max_pixels)
                image.load()
                return to_grey(np.asarray(_flatten(ImageOps.exif_transpose(image))))
        except Image.DecompressionBombError as error:
            raise _too_large() from error
        except UnidentifiedImageError as error:
            raise SliceError(
                "not_an_image", "The file is no PNG, JPEG, BMP or TIFF image.", "Remove or convert it."
            ) from error
        except malformed() as error:
            raise SliceError(
                "truncated_pixels", "The image is cut off or corrupt.", "Export or copy it again."
            ) from error


def _check_header(size: tuple[int, int], mode: str, pages: int, max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise _too_large()
    if pages > 1:
        raise SliceError("multiple_pages", f"The file holds {pages} images.", "Save one slice a file.")
    if mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise SliceError(
            "not_8_bit",
            "The image is deeper than 8 bits: its display window is unknown.",
            "Save it as 8-bit grey through a window, or use the DICOM series.",
        )


def _too_large() -> SliceError:
    return SliceError(
        "too_large",
        "The image has more pixels than may be decoded.",
        "Raise ingest.max_pixels if it is genuine.",
    )


def _flatten(image: "Image.Image") -> "Image.Image":
    """Returns a PIL image in mode L or RGB, transparent parts over black as air is."""
    from PIL import Image

    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("CMYK", "YCbCr"):
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")


def to_grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns (rows, columns) uint8 from grey or from (rows, columns, 3) whose channels agree.

    Where the channels differ by JPEG's rounding, the middle one of the three is taken.

    Raises:
        SliceError: the channels differ by more than that: the image is in colour.
    """
    if pixels.ndim == 2:
        return np.asarray(pixels, dtype=np.uint8)
    if int((pixels.max(axis=2) - pixels.min(axis=2)).max()) > MAX_CHANNEL_DIFFERENCE:
        raise SliceError(
            "not_grey",
            "The image is in colour: marks or colour maps change what grey means.",
            "Export it without annotation or colour map.",
        )
    return np.sort(pixels, axis=2)[:, :, 1]


def write_grey(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Writes (rows, columns) uint8 as a PNG without any metadata."""
    from PIL import Image

    Image.fromarray(pixels).save(path, format="PNG", compress_level=3)
