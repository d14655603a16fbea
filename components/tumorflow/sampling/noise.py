"""The scanner's part in the picture: sharpness and noise by convolution kernel and thickness."""

import math
from typing import Literal

import numpy as np

from tumorflow.sampling.anatomy import Plane

Sharpness = Literal["soft", "sharp"]


def noise_level(sharpness: Sharpness, thickness_mm: float, dose: float) -> float:
    """Returns the noise's standard deviation in HU; it falls with the root of thickness and dose.

    Brooks and Di Chiro, Med Phys 1976;3:237–240.
    """
    return {"soft": 16.0, "sharp": 42.0}[sharpness] / math.sqrt(thickness_mm * dose)


def make_noise(
    random: np.random.Generator, shape: tuple[int, int], spacing_mm: float, sharpness: Sharpness
) -> Plane:
    """Returns noise of mean 0 and standard deviation near 1, correlated as the kernel leaves it.

    The difference of two Gaussians: filtered back projection passes the middle frequencies (ramp times
    apodisation), so that grains have a size and slow waves are missing.
    """
    from scipy.ndimage import gaussian_filter

    grain = {"soft": 0.75, "sharp": 0.38}[sharpness] / spacing_mm
    white = random.standard_normal(shape)
    fine = gaussian_filter(white, grain, mode="wrap", truncate=3.0)
    coarse = gaussian_filter(white, 2.2 * grain, mode="wrap", truncate=3.0)
    # variance of g1 - g2 for white noise: the sum of the squared weights, in closed form
    s, t = grain * grain, (2.2 * grain) ** 2
    variance = (1 / s + 1 / t - 4 / (s + t)) / (4 * math.pi)
    fine -= coarse
    fine *= 1 / math.sqrt(variance)
    return np.asarray(fine)


def make_texture(random: np.random.Generator, shape: tuple[int, int], spacing_mm: float) -> Plane:
    """Returns slow unevenness of mean 0 and standard deviation near 1, in patches of some 3 mm.

    Drawn on a grid four times coarser and interpolated between its points, which is much faster.
    """
    rows, columns = shape
    coarse = make_noise(random, (rows // 4 + 2, columns // 4 + 2), spacing_mm * 4 / 3.0, "soft")
    return _interpolate(_interpolate(coarse, rows).T, columns).T


def _interpolate(coarse: Plane, rows: int) -> Plane:
    """Returns `rows` rows, four for every row of `coarse`, linear in between."""
    position = np.arange(rows) / 4
    below = position.astype(np.int64)
    share = (position - below)[:, None]
    return coarse[below] * (1 - share) + coarse[below + 1] * share


def blur(image: Plane, spacing_mm: float, sharpness: Sharpness) -> Plane:
    """Returns `image` as the kernel's point spread leaves it."""
    from scipy.ndimage import gaussian_filter

    sigma = {"soft": 0.55, "sharp": 0.28}[sharpness] / spacing_mm
    return np.asarray(gaussian_filter(image, sigma, mode="nearest", truncate=3.0))
