"""What size and brightness alone tell of the class: the baseline that a network must beat."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SourceError
from tumorflow.progress import track

SOLID_ABOVE_HU = -350
OPENING_MM = 2.0
FOLDS = 5


@dataclass(frozen=True)
class Baseline:
    """Cross-validated results of a logistic regression on two features a slice."""

    accuracy: float
    macro_f1: float
    slices: int


def measure_largest_solid(units: npt.NDArray[np.int16], spacing_mm: float) -> tuple[float, float]:
    """Returns equivalent diameter in mm and mean HU of the lung's largest solid thing; 0, -1000 if none.

    Vessels are cut off by an opening; what then reaches the border of the picture is chest wall or
    mediastinum, and bone and air around the patient are no neighbours of the lung.

    Args:
        units: Hounsfield units, (rows, columns).
        spacing_mm: between pixels.
    """
    from scipy.ndimage import binary_opening, label

    rows, columns = (length - length % 2 for length in units.shape)
    # a quarter of the pixels is enough for a size, and four times as fast
    coarse = units[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))
    radius_px = max(1, round(OPENING_MM / (2 * spacing_mm)))
    solid = binary_opening(coarse > SOLID_ABOVE_HU, iterations=radius_px)
    regions, count = label(solid)
    border = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    sizes[border] = 0
    sizes[0] = 0
    if not sizes.any():
        return 0.0, -1000.0
    largest = regions == int(sizes.argmax())
    diameter_mm = 2 * np.sqrt(sizes.max() / np.pi) * 2 * spacing_mm
    return float(diameter_mm), float(coarse[largest].mean())


def cross_validate(
    features: npt.NDArray[np.float64], labels: Sequence[str], patients: Sequence[str], seed: int
) -> Baseline:
    """Returns what a logistic regression reaches on (slices, features); no patient is in two folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    folds = StratifiedGroupKFold(min(FOLDS, len(set(patients)) // 3), shuffle=True, random_state=seed)
    predicted = cross_val_predict(model, features, np.asarray(labels), groups=np.asarray(patients), cv=folds)
    return Baseline(
        accuracy=float(accuracy_score(labels, predicted)),
        macro_f1=float(f1_score(labels, predicted, average="macro")),
        slices=len(labels),
    )


def two_feature_baseline(folder: Path, seed: int) -> Baseline:
    """Returns the baseline's results on the cohort in `folder`, measured from its files.

    Files that are broken on purpose are left out: only they have no number for a name.

    Raises:
        SourceError: the cohort has no labels.
    """
    import pydicom

    from tumorflow.slices import to_hounsfield

    try:
        with (folder / "labels.csv").open(newline="") as file:
            labels = {row["patient_id"]: row["label"] for row in csv.DictReader(file)}
    except (OSError, KeyError) as error:
        raise SourceError(
            f"A cohort has labels.csv with the columns patient_id and label. "
            f"Received: {type(error).__name__} in {folder}. Write it again with: tumorflow sample --force"
        ) from error
    paths = sorted((folder / "dicom").glob("*/*/[0-9]*.dcm"))
    features, patients = [], []
    for path in track(paths, len(paths), "two-feature baseline", "slices"):
        dataset = pydicom.dcmread(path)
        units = to_hounsfield(dataset.pixel_array, 1, float(dataset.RescaleIntercept))
        features.append(measure_largest_solid(units, float(dataset.PixelSpacing[0])))
        patients.append(str(dataset.PatientID))
    return cross_validate(np.array(features), [labels[patient] for patient in patients], patients, seed)
