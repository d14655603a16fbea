"""A model that answers: its file's flatbuffer, and what the file says of itself."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tumorflow.errors import SliceError, SourceError
from tumorflow.explanation import FeatureDistribution, Head, head_of_arrays
from tumorflow.files import read_json
from tumorflow.litert import Answer, Classifier
from tumorflow.model_file import unpack
from tumorflow.params import Window
from tumorflow.serving.batches import ALONE, Batches, Batching, takes_several
from tumorflow.slices import Intensities
from tumorflow.tensors import Tensor, to_tensor

FORMAT = 1


@dataclass(frozen=True)
class About:
    """What a service says of its model, and needs to ask it."""

    name: str
    version: str
    """In the registry; empty: the file came from elsewhere."""
    variant: str
    file_hash: str
    model_hash: str
    classes: tuple[str, ...]
    unit: str
    method: str
    image_size_px: int
    windows: tuple[Window, ...]
    slice_thickness_mm: tuple[float, float] | None

    def prepare(self, intensities: Intensities) -> Tensor:
        """Returns a slice as the model takes it: (image_size_px, image_size_px, 3), uint8, 0–255.

        Raises:
            SliceError: it is in another unit than the model learned from.
        """
        if (intensities.dtype == np.uint8) != (self.unit == "display"):
            if self.unit == "HU":
                raise SliceError(
                    "not_hounsfield",
                    "The model reads Hounsfield units, which a picture does not hold.",
                    "Send the DICOM series.",
                )
            raise SliceError(
                "not_display", "The model reads pictures in 8-bit grey, not DICOM.", "Send PNG or JPEG files."
            )
        if self.method == "article":
            from tumorflow.preprocessing.article import to_article_tensor

            return to_article_tensor(intensities, image_size_px=self.image_size_px)
        return to_tensor(intensities, unit=self.unit, image_size_px=self.image_size_px, windows=self.windows)


@dataclass(frozen=True)
class Reference:
    """Where a model is, for another process that answers by it."""

    file: Path
    name: str
    version: str
    file_hash: str


class Model:
    """A TFLite model, loaded as often as it is called at a time.

    Nothing needs to be closed: what a request holds stays, and ends with the last one.
    """

    def __init__(
        self,
        content: bytes,
        about: About,
        head: Head | None,
        known: FeatureDistribution | None,
        reference: Reference,
        batching: Batching,
    ) -> None:
        """Loads the model once.

        Raises:
            SourceError: it is no model, or not the one its file describes.
        """
        self.about = about
        self.content = content
        self.head = head
        self.known = known
        self.reference = reference
        classifier = _load(content)
        size = about.image_size_px
        if classifier.input_shape != (size, size, 3) or classifier.classes != len(about.classes):
            raise SourceError(
                "A model's file describes it. Received: other sizes or classes in it than in its "
                "description. Export it again."
            )
        if batching.slices > 1:
            if not takes_several(classifier):
                batching = replace(batching, slices=1)
            classifier = _load(content)
        # by the content alone: what holds this model would keep it after its last request
        self._batches = Batches(partial(_load, content), batching)
        self._batches.add(classifier)

    def answer(self, tensor: Tensor) -> Answer:
        """Returns what the model says of a slice, with others that are asked at the same time."""
        return self._batches.answer(tensor)


def _load(content: bytes) -> Classifier:
    classifier = Classifier(content)
    classifier.answer(np.zeros(classifier.input_shape, np.uint8))  # the first answer is a slow one
    return classifier


def load(file: Path, *, name: str = "", version: str = "", batching: Batching = ALONE) -> Model:
    """Returns the model in a TFLite file that says itself how to use it.

    Args:
        file: as export writes it.
        name: of the registered model; empty: as the file says.
        version: in the registry.
        batching: how it is called.

    Raises:
        SourceError: it is no such file.
    """
    if not file.is_file():
        raise SourceError(f"A model is a TFLite file that export wrote. Received: no file at {file}.")
    content = file.read_bytes()
    described = unpack(content)
    try:
        about = _read_about(described.about, hashlib.sha256(content).hexdigest(), name, version)
        head = head_of_arrays(described.arrays)
        known = None
        if described.about["feature_distance_limit"]:
            known = FeatureDistribution(
                described.arrays["feature_mean"],
                described.arrays["feature_deviation"],
                float(described.about["feature_distance_limit"]),
            )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"A model's file says its classes, windows and sizes. Received: {type(error).__name__} in what "
            f"{file.name} says. Export it with this version of tumorflow."
        ) from error
    return Model(content, about, head, known, Reference(file, name, version, about.file_hash), batching)


def _read_about(about: Mapping[str, Any], file_hash: str, name: str, version: str) -> About:
    if about["format"] != FORMAT:
        raise ValueError("another format")
    preprocessing = about["preprocessing"]
    thickness = about["slice_thickness_mm"]
    return About(
        name=name or str(about["registered_model"]),
        version=version,
        variant=str(about["variant"]),
        file_hash=file_hash,
        model_hash=str(about["model_hash"]),
        classes=tuple(map(str, about["classes"])),
        unit=str(preprocessing["intensity_unit"]),
        method=str(preprocessing["method"]),
        image_size_px=int(preprocessing["image_size_px"]),
        windows=tuple(Window(**window) for window in preprocessing["windows"]),
        slice_thickness_mm=(float(thickness[0]), float(thickness[1])) if thickness else None,
    )


def load_champion(folder: Path, variant: str, batching: Batching) -> Model:
    """Returns the model in a champion's own folder.

    Args:
        folder: what `resolve_current` returned.
        variant: `float32`, or another that the release holds.
        batching: how it is called.

    Raises:
        SourceError: it has no such variant, or does not say what it is.
    """
    about = read_json(folder / "version.json")
    try:
        name, version = str(about["model"]), str(about["version"])
    except (KeyError, TypeError) as error:
        raise SourceError(
            "A champion's folder says its model and version in version.json. Received: another thing. Let "
            "`tumorflow champion follow` write it again."
        ) from error
    file = folder / "release" / "tflite" / f"model_{variant}.tflite"
    return load(file, name=name, version=version, batching=batching)
