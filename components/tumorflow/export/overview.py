"""One picture of what a reviewer looks at first: MLflow's page shows pictures in no size but their own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

FILE = "overview.png"
WIDTH_PX = 760
"""What the page has room for beside MLflow's assistant."""
ROWS = (("confusion", "roc", "reliability"), ("gradcam-00", "gradcam-01"))
VARIANTS = "variants.png"


def draw_overview(plots: Path, release: Path) -> bytes:
    """Returns those of the evaluation's plots that are there, in `ROWS`, as one PNG; empty: none is there.

    Below them stands the release's picture of its variants.
    """
    import cv2

    rows = []
    for files in (*([plots / f"{name}.png" for name in names] for names in ROWS), [release / VARIANTS]):
        read = (cv2.imread(str(file)) for file in files)
        pictures = [picture for picture in read if picture is not None]
        if pictures:
            rows.append(_fit(pictures))
    if not rows:
        return b""
    return bytes(cv2.imencode(".png", np.vstack(rows), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])


def _fit(pictures: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Returns pictures (height, width, 3) beside each other, in one height, filling the width."""
    import cv2

    shapes = [picture.shape[1] / picture.shape[0] for picture in pictures]
    height = min(int(WIDTH_PX / sum(shapes)), 280)
    scaled = [
        cv2.resize(picture, (int(height * shape), height), interpolation=cv2.INTER_AREA)
        for picture, shape in zip(pictures, shapes, strict=True)
    ]
    row = np.hstack(scaled).astype(np.uint8)
    return np.pad(row, ((0, 8), (0, WIDTH_PX - row.shape[1]), (0, 0)), constant_values=255)
