"""The article's preprocessing, kept as a named baseline: `preprocess.method: article`.

Min-max and histogram equalisation look at each slice alone, so that one strip of metal moves all tissue.
"""

import numpy as np

from tumorflow.slices import Intensities
from tumorflow.tensors import CHANNELS, Tensor

AIR = (0, 0, 0)
"""What the article fills with; equalisation leaves air no fixed value."""


def to_article_tensor(intensities: Intensities, *, image_size_px: int) -> Tensor:
    """Returns a slice as the article prepares it: (image_size_px, image_size_px, 3), uint8, 0–255.

    Min-max to 0–1, histogram equalisation (scikit-image), resize without regard to proportions, one channel
    copied to three. A constant slice, by which the article divides by zero, becomes all 0.
    """
    import cv2
    from skimage.exposure import equalize_hist

    values = intensities.astype(np.float64)
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros((image_size_px, image_size_px, CHANNELS), dtype=np.uint8)
    equalised = equalize_hist((values - low) / (high - low))
    resized = cv2.resize(equalised, (image_size_px, image_size_px))
    grey = np.rint(np.clip(resized, 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[:, :, np.newaxis], CHANNELS, axis=2)
