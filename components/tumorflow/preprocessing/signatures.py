"""Signatures of slices, and the pairs of slices whose signatures are alike.

A signature is a vector of SIGNATURE_LENGTH float32 with norm 1 (or all 0: like nothing), so that the product
of two is their normalised cross-correlation. They are stored as STORED and come back in blocks: memory does
not grow with the number of slices.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tumorflow.preprocessing.rows import StoredRows
from tumorflow.progress import track
from tumorflow.slices import Intensities
from tumorflow.tensors import AIR_DISPLAY, AIR_HU, fit_square

Signature = npt.NDArray[np.float32]
Pairs = npt.NDArray[np.intp]

EDGE = 64
SIGNATURE_LENGTH = EDGE * EDGE
BLOCK, TALL_BLOCK = 512, 1024
STORED = np.dtype(np.float16)

TISSUE_HU = (-1000, 400)
"""Range that a scan's signature looks at: metal must not outweigh anatomy."""
SCAN_BLUR_PX = 2.0
NOISE_LIMIT = 3.0
"""Noise beyond so many median absolute deviations is an edge and counts as 0."""


def scan_signature(intensities: Intensities, unit: str) -> Signature:
    """Returns a signature that neighbouring slices of one scan share, and slices of two patients do not.

    The slice at 64 × 64 less its blurred self: outlines of bone, vessels and table, whatever the brightness,
    size or compression of the image.
    """
    import cv2

    clipped = np.clip(intensities, *TISSUE_HU).astype(np.int16) if unit == "HU" else intensities
    small = fit_square(clipped, EDGE, air=AIR_HU if unit == "HU" else AIR_DISPLAY).astype(np.float32)
    return _normalise(small - cv2.GaussianBlur(small, (0, 0), SCAN_BLUR_PX))


def noise_signature(intensities: Intensities) -> Signature:
    """Returns a signature that only copies of one acquisition share: the noise in the middle of the slice.

    Two acquisitions never have the same quantum noise, however alike the anatomy; a copy with a little noise
    added, rescaled or rounded still has most of it.
    """
    import cv2

    rows, columns = intensities.shape
    top, left = max(0, (rows - EDGE) // 2), max(0, (columns - EDGE) // 2)
    crop = intensities[top : top + EDGE, left : left + EDGE].astype(np.float32)
    # the band between single pixels, where added noise is, and anatomy
    noise = cv2.blur(crop, (3, 3)) - cv2.blur(crop, (7, 7))
    limit = NOISE_LIMIT * float(np.median(np.abs(noise)))
    square = np.zeros((EDGE, EDGE), dtype=np.float32)
    square[: noise.shape[0], : noise.shape[1]] = np.where(np.abs(noise) <= limit, noise, 0)
    return _normalise(square)


def _normalise(image: npt.NDArray[np.float32]) -> Signature:
    vector = image.ravel() - image.mean()
    norm = float(np.linalg.norm(vector))
    return np.asarray(vector / norm if norm > 1e-3 else np.zeros_like(vector), dtype=np.float32)


def similar_pairs(stored: StoredRows, similarity: float) -> Iterator[Pairs]:
    """Yields arrays (pairs, 2) of positions i < j whose signatures correlate with at least `similarity`.

    Together they hold every such pair once; only two blocks, 24 MB, are in memory.
    """
    starts = range(0, len(stored), TALL_BLOCK)
    for start in track(starts, len(starts), "find near-duplicates", "blocks"):
        block = _read_block(stored, start, TALL_BLOCK)
        for other_start in range(start, len(stored), BLOCK):
            other = _read_block(stored, other_start, BLOCK)
            pairs = np.argwhere(block @ other.T >= similarity) + np.array((start, other_start))
            yield pairs[pairs[:, 0] < pairs[:, 1]]


def _read_block(stored: StoredRows, start: int, length: int) -> Signature:
    values = stored.read(start, min(start + length, len(stored)))
    return values.astype(np.float32)
