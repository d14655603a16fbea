"""Augmentation: a random affine map a view, filled with air. Images are (height, width, 3), uint8."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Ranges:
    """How far a view may differ: each amount is drawn uniformly from ± its range."""

    rotation_degrees: float = 0.0
    shift_fraction: float = 0.0
    """Of height and width, each axis on its own."""
    shear_fraction: float = 0.0
    """Horizontal shift a row, in rows."""
    zoom_fraction: float = 0.0
    """Each axis on its own."""
    horizontal_flip: bool = False
    """Mirrors one view in two, and with it the anatomy: heart on the right."""


def augment(image: Image, ranges: Ranges, air: tuple[int, int, int], key: tuple[int, ...]) -> Image:
    """Returns a random view of the image, of the same shape and dtype.

    Args:
        image: (height, width, 3), uint8.
        ranges: how far the view may differ; with all of them zero it is the image itself.
        air: value of air in each channel, for what comes in from outside.
        key: whole numbers ≥ 0 that draw the view; the same key draws the same view.
    """
    import cv2

    height, width = image.shape[:2]
    matrix = draw_affine(ranges, height, width, np.random.default_rng(key))
    view: Image = cv2.warpAffine(
        image,
        matrix[:2],
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=air,
    )
    return view


def draw_affine(
    ranges: Ranges, height: int, width: int, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Returns a random affine map (3, 3) of pixel coordinates (x, y, 1) about the image's centre."""
    angle, shear, shift_x, shift_y, zoom_x, zoom_y = generator.uniform(-1, 1, 6)
    mirrored = ranges.horizontal_flip and generator.random() < 0.5
    radians = np.deg2rad(ranges.rotation_degrees * angle)
    cosine, sine = np.cos(radians), np.sin(radians)
    rotation = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    sheared = np.array([[1.0, ranges.shear_fraction * shear, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    scale = np.diag(
        [
            (-1.0 if mirrored else 1.0) * (1 + ranges.zoom_fraction * zoom_x),
            1 + ranges.zoom_fraction * zoom_y,
            1.0,
        ]
    )
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    to_centre = np.array([[1.0, 0.0, -centre_x], [0.0, 1.0, -centre_y], [0.0, 0.0, 1.0]])
    back = np.array(
        [
            [1.0, 0.0, centre_x + ranges.shift_fraction * shift_x * width],
            [0.0, 1.0, centre_y + ranges.shift_fraction * shift_y * height],
            [0.0, 0.0, 1.0],
        ]
    )
    matrix: npt.NDArray[np.float64] = back @ rotation @ sheared @ scale @ to_centre
    return matrix


@dataclass(frozen=True)
class Augmenter:
    """Draws view after view of a slice from one seed, the slice's content and the view's number."""

    ranges: Ranges
    air: tuple[int, int, int]
    seed: int

    def __call__(self, image: Image, content: int, view: int) -> Image:
        """Returns view number `view`, from 1, of the slice whose content has the number `content`."""
        return augment(image, self.ranges, self.air, (self.seed, content, view))
