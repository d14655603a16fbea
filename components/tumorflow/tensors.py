"""The one definition of pixels → tensor, shared by preprocessing, export parity and the service.

Shapes: an image is (rows, columns), a tensor (size, size, 3) of uint8, one channel a window.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SliceError
from tumorflow.params import Window
from tumorflow.slices import Intensities

IntensityUnit = Literal["HU", "display"]
Tensor = npt.NDArray[np.uint8]

AIR_HU = -1000
AIR_DISPLAY = 0
CHANNELS = 3


def to_tensor(
    intensities: Intensities, *, unit: str, image_size_px: int, windows: Sequence[Window]
) -> Tensor:
    """Returns a slice as a tensor: (image_size_px, image_size_px, 3), uint8, 0–255.

    Hounsfield units are resized first, because partial volume is an average of attenuation and not of grey
    values; then each window becomes a channel, and a single window is copied to three. Display grey is
    resized and copied to three channels. A slice that is not square keeps its proportions: air fills up.

    Args:
        intensities: int16 Hounsfield units, or uint8 display grey; (rows, columns).
        unit: `HU` or `display`.
        image_size_px: edge of the tensor.
        windows: one or three; not used for display grey.

    Raises:
        SliceError: the array is not a two-dimensional one of its unit's type.
    """
    if intensities.ndim != 2 or intensities.size == 0 or intensities.dtype != _dtype_of(unit):
        raise SliceError(
            "not_a_slice",
            f"A slice in '{unit}' is a two-dimensional array of {_dtype_of(unit)}. "
            f"Received: shape {intensities.shape} of {intensities.dtype}.",
            "Convert it to Hounsfield units (int16) or to display grey (uint8).",
        )
    resized = fit_square(intensities, image_size_px, air=AIR_HU if unit == "HU" else AIR_DISPLAY)
    if unit == "display":
        return np.repeat(resized[:, :, np.newaxis].astype(np.uint8, copy=False), CHANNELS, axis=2)
    table = window_table(tuple((window.window_center_hu, window.window_width_hu) for window in windows))
    return table.take(resized.view(np.uint16), axis=0)


def air_value(unit: str, windows: Sequence[Window]) -> tuple[int, int, int]:
    """Returns the three values, 0–255, that air has in a tensor."""
    air = np.full((1, 1), AIR_HU if unit == "HU" else AIR_DISPLAY, dtype=_dtype_of(unit))
    red, green, blue = to_tensor(air, unit=unit, image_size_px=1, windows=windows)[0, 0].tolist()
    return red, green, blue


def fit_square(image: Intensities, size: int, air: int) -> Intensities:
    """Returns the image resized to fit (size, size), centred; `air` fills what it does not cover.

    Halved by area as long as it is twice too large, then resized linearly: every pixel counts, at a fifth
    of the time that averaging by area takes at once.
    """
    import cv2

    rows, columns = image.shape
    scale = size / max(rows, columns)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    resized: Intensities = image
    while min(resized.shape[0] // height, resized.shape[1] // width) >= 2:
        rows, columns = resized.shape[0] // 2, resized.shape[1] // 2
        resized = cv2.resize(resized, (columns, rows), interpolation=cv2.INTER_AREA)
    resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_LINEAR)
    if height == width == size:
        return resized
    square: Intensities = np.full((size, size), air, dtype=image.dtype)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = resized
    return square


@lru_cache(maxsize=8)
def window_table(windows: tuple[tuple[float, float], ...]) -> npt.NDArray[np.uint8]:
    """Returns grey values by Hounsfield unit: (65536, 3), uint8, read-only.

    Row `h` belongs to the int16 whose bits read `h` as uint16. DICOM PS3.3 C.11.2.1.3.2 (LINEAR_EXACT):
    grey = ((HU − center) / width + 0.5) × 255, within 0–255, rounded.

    Args:
        windows: (center, width) in HU; one is copied to three channels.
    """
    units = np.arange(2**16, dtype=np.uint16).view(np.int16).astype(np.float64)
    columns = [np.clip((units - center) / width + 0.5, 0, 1) * 255 for center, width in windows]
    if len(columns) == 1:
        columns *= CHANNELS
    table = np.rint(np.stack(columns, axis=1)).astype(np.uint8)
    table.setflags(write=False)
    return table


def _dtype_of(unit: str) -> np.dtype[np.int16] | np.dtype[np.uint8]:
    return np.dtype(np.int16) if unit == "HU" else np.dtype(np.uint8)
