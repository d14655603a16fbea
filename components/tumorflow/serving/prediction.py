"""Files in, opinions out."""

import base64
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow.errors import SliceError
from tumorflow.ingestion import images
from tumorflow.ingestion.dicom import CTFile
from tumorflow.litert import Answer
from tumorflow.serving.answers import (
    ModelFacts,
    PatientOpinion,
    Prediction,
    RefusedFile,
    SliceOpinion,
    Warned,
)
from tumorflow.serving.dicom_results import read_reference
from tumorflow.serving.model import About, Model
from tumorflow.serving.problems import ProblemError
from tumorflow.serving.settings import Limits
from tumorflow.serving.uploads import Refused, Stored
from tumorflow.slices import Intensities
from tumorflow.tensors import Tensor

if TYPE_CHECKING:
    from pydicom import Dataset

FEWEST_SLICES = 3
SMALL_LEAD = 0.1
TISSUE_HU, TISSUE_FRACTION = -400, 0.02


@dataclass(frozen=True)
class Wanted:
    """What a request asks for beside the opinions."""

    overlays: bool = False
    pictures: bool = False
    references: bool = False
    """What results in DICOM's form repeat of a file."""


@dataclass(frozen=True)
class Slice:
    """One slice of a request, ready for the model; `patient` is never repeated to anybody."""

    file: int
    frame: int
    patient: str
    tensor: Tensor
    has_tissue: bool
    thickness_mm: float | None = None
    position_mm: float | None = None
    reference: "Dataset | None" = None


@dataclass(frozen=True)
class Examined:
    """The opinion on one slice, and what is not told: whose it is, and its features for the drift log."""

    patient: str
    opinion: SliceOpinion
    features: npt.NDArray[np.float32] | None
    thickness_mm: float | None
    reference: "Dataset | None" = None
    """What results in DICOM's form repeat of its file."""


def examine(
    model: Model,
    file: Stored | Refused,
    wanted: Wanted,
    limits: Limits,
    deadline: float,
    reading: threading.Semaphore | None = None,
) -> list[Examined | Refused]:
    """Returns an opinion or a refusal for each slice of a file.

    Args:
        model: whose opinions.
        file: when it is removed meanwhile, what was found so far is returned.
        wanted: beside the opinions.
        limits: of a request.
        deadline: by `time.monotonic`, at which nobody waits any more.
        reading: the turns of those who read at a time; None: nobody else does.

    Raises:
        ProblemError: the deadline has passed, or the file has more slices than are taken.
    """
    found: list[Examined | Refused] = []
    slices = read(file, model.about, limits, wanted)
    with _turn(reading, deadline, limits):
        one = None if _is_gone(file) else next(slices, None)
        while one and (following := next(slices, None)):
            if _is_gone(file):
                return found
            found.append(_opine_on(model, one, wanted, limits, deadline))
            one = following
    # beyond the turn: the last slice, mostly the only one, waits for its answer while another file is read
    if one and not _is_gone(file):
        found.append(_opine_on(model, one, wanted, limits, deadline))
    return found


def _is_gone(file: Stored | Refused) -> bool:
    """Returns whether nobody waits for a file any more."""
    return isinstance(file, Stored) and not file.path.exists()


@contextmanager
def _turn(turns: threading.Semaphore | None, deadline: float, limits: Limits) -> Iterator[None]:
    if turns is None:
        yield
        return
    if not turns.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise too_long(limits)
    try:
        yield
    finally:
        turns.release()


def _opine_on(
    model: Model, one: Slice | Refused, wanted: Wanted, limits: Limits, deadline: float
) -> Examined | Refused:
    if time.monotonic() > deadline:
        raise too_long(limits)
    if isinstance(one, Refused):
        return one
    pictured = one.frame <= limits.pictured_slices
    return describe(model, one, model.answer(one.tensor), wanted if pictured else Wanted())


def too_many_slices(limits: Limits) -> ProblemError:
    """Returns the problem of a request with more slices than are taken."""
    return ProblemError(
        413, "too_many_slices", f"A request has at most {limits.slices} slices. Received: more. Send fewer."
    )


def too_long(limits: Limits) -> ProblemError:
    """Returns the problem of a request that could not be answered in time."""
    return ProblemError(
        503,
        "too_long",
        f"An answer takes at most {limits.answer_s:g} s. Received: a request that needs longer. Send fewer "
        "slices.",
        retry_after_s=5,
    )


def conclude(
    model: Model, found: Sequence[Examined | Refused], wanted: Wanted, limits: Limits, request_id: str
) -> Prediction:
    """Returns the answer to a request, of what was found in its files.

    Raises:
        ProblemError: no file could be used.
    """
    refused = [each for each in found if isinstance(each, Refused)]
    examined = [each for each in found if isinstance(each, Examined)]
    if not examined:
        raise ProblemError(
            422,
            "nothing_usable",
            f"A request has a slice that the model can read. Received: {len(refused)} files, all refused "
            f"({', '.join(sorted({each.rule for each in refused}))}).",
        ).with_refused([asdict(each) for each in refused])
    patients: dict[str, int] = {}
    for each in examined:
        each.opinion.patient = patients.setdefault(each.patient, len(patients) + 1)
    opinions = [each.opinion for each in examined]
    for opinion in opinions[limits.pictured_slices :]:
        opinion.picture = opinion.overlay = None
    pooled = [pool(number, opinions, model.about) for number in patients.values()]
    first = pooled[0]
    return Prediction(
        predicted=first.predicted,
        confidence=first.confidence,
        probabilities=first.probabilities,
        warnings=_warn_of_request(pooled, refused, opinions, wanted, limits),
        patients=pooled,
        slices=opinions,
        refused=[RefusedFile(**asdict(each)) for each in refused],
        model=facts(model),
        request_id=request_id,
    )


def read(file: Stored | Refused, about: About, limits: Limits, wanted: Wanted) -> Iterator[Slice | Refused]:
    """Yields each slice of a file."""
    if isinstance(file, Refused):
        yield file
        return
    try:
        if file.size == 0:
            raise SliceError("empty_file", "The file has no content.", "Export or copy it again.")
        yield from (
            _read_image(file, about, limits) if file.is_image else _read_dicom(file, about, limits, wanted)
        )
    except SliceError as error:
        yield Refused.of(file.number, error)


def _read_image(file: Stored, about: About, limits: Limits) -> Iterator[Slice]:
    pixels = images.read_grey(file.path, limits.pixels)
    yield Slice(file.number, 1, "", about.prepare(pixels), bool(pixels.max() > pixels.min()))


def _read_dicom(file: Stored, about: About, limits: Limits, wanted: Wanted) -> Iterator[Slice | Refused]:
    ct = CTFile(file.path, file.size, limits.pixels)
    if ct.frames > limits.slices:
        raise too_many_slices(limits)
    reference = read_reference(file.path) if wanted.references else None
    for frame in range(ct.frames):
        try:
            one = ct.slice(frame)
            tensor = about.prepare(one.hounsfield)
        except SliceError as error:
            yield Refused.of(file.number, error)
            continue
        yield Slice(
            file.number,
            frame + 1,
            ct.original_patient,
            tensor,
            find_tissue(one.hounsfield),
            one.geometry.slice_thickness_mm,
            one.geometry.slice_position_mm,
            reference,
        )


def find_tissue(hounsfield: Intensities) -> bool:
    """Returns whether enough of a slice is denser than lung for it to be one of a body."""
    return bool(np.count_nonzero(hounsfield > TISSUE_HU) >= TISSUE_FRACTION * hounsfield.size)


def describe(model: Model, one: Slice, answer: Answer, wanted: Wanted) -> Examined:
    """Returns the opinion on a slice, in which `patient` is not numbered yet."""
    about = model.about
    distance = features = None
    warnings = []
    if answer.feature_map is not None and model.known is not None:
        features = answer.feature_map.mean(axis=(0, 1))
        distance = float(model.known.distance(features[np.newaxis])[0])
        if distance > model.known.limit:
            warnings.append(
                Warned(
                    rule="out_of_distribution",
                    message="The slice is unlike those that the model learned from: another part of the "
                    "body, another kind of scan, or no CT of a body at all.",
                )
            )
    if not one.has_tissue:
        warnings.append(Warned(rule="no_body", message="There is hardly any tissue in the slice."))
    known = about.slice_thickness_mm
    if known and one.thickness_mm and not known[0] / 1.5 <= one.thickness_mm <= known[1] * 1.5:
        warnings.append(
            Warned(
                rule="thickness",
                message=f"The slice is {one.thickness_mm:g} mm thick; the model learned from {known[0]:g} to "
                f"{known[1]:g} mm.",
            )
        )
    overlay = None
    if wanted.overlays and model.head is not None and answer.feature_map is not None:
        label = int(answer.probabilities.argmax())
        overlay = draw_overlay(model.head.explain(answer.feature_map, label, *one.tensor.shape[:2]))
    opinion = SliceOpinion(
        **_opine(answer.probabilities, about),
        file=one.file,
        frame=one.frame,
        patient=0,
        position_mm=one.position_mm,
        feature_distance=distance,
        warnings=warnings,
        picture=as_data_url(one.tensor[:, :, ::-1]) if wanted.pictures else None,
        overlay=overlay,
    )
    return Examined(one.patient, opinion, features, one.thickness_mm, one.reference)


def pool(number: int, opinions: list[SliceOpinion], about: About) -> PatientOpinion:
    """Returns the opinion on patient `number`: the mean probabilities over the slices."""
    own = [each for each in opinions if each.patient == number]
    mean = np.array([[each.probabilities[name] for name in about.classes] for each in own]).mean(axis=0)
    best = np.sort(mean)
    warnings = []
    if len(own) < FEWEST_SLICES:
        warnings.append(
            Warned(rule="thin_evidence", message=f"It rests on {len(own)} slice(s); send the whole series.")
        )
    if best[-1] - best[-2] < SMALL_LEAD:
        warnings.append(Warned(rule="undecided", message="Two classes are almost equally probable."))
    unlike = sum(any(warned.rule == "out_of_distribution" for warned in each.warnings) for each in own)
    if 2 * unlike > len(own):
        warnings.append(
            Warned(
                rule="out_of_distribution",
                message=f"{unlike} of {len(own)} slices are unlike those that the model learned from: do not "
                "rely on this answer.",
            )
        )
    return PatientOpinion(**_opine(mean, about), patient=number, slices=len(own), warnings=warnings)


def facts(model: Model) -> ModelFacts:
    """Returns what is said of a model."""
    about = model.about
    return ModelFacts(
        name=about.name,
        version=about.version,
        variant=about.variant,
        model_hash=about.model_hash,
        file_hash=about.file_hash,
        classes=list(about.classes),
        intensity_unit=about.unit,
        windows=[(window.window_center_hu, window.window_width_hu) for window in about.windows],
        image_size_px=about.image_size_px,
        limit_feature_distance=model.known.limit if model.known else None,
    )


def draw_overlay(heat: npt.NDArray[np.float32]) -> str:
    """Returns a heat map (height, width), 0 to 1, as a data URL: its colour, as opaque as it is hot."""
    import cv2

    colour = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return as_data_url(np.dstack([colour, np.rint(heat * 255).astype(np.uint8)]))


def as_data_url(pixels: npt.NDArray[np.uint8]) -> str:
    """Returns (height, width, 3 or 4) blue, green, red (and alpha) as a PNG in a data URL."""
    import cv2

    encoded = cv2.imencode(".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _opine(probabilities: npt.NDArray[np.float64], about: About) -> dict[str, Any]:
    kept = np.clip(probabilities, 0, 1)  # 8 bits may give a hair more than 1
    best = int(kept.argmax())
    return {
        "predicted": about.classes[best],
        "confidence": float(kept[best]),
        "probabilities": dict(zip(about.classes, kept.tolist(), strict=True)),
    }


def _warn_of_request(
    pooled: list[PatientOpinion],
    refused: list[Refused],
    opinions: list[SliceOpinion],
    wanted: Wanted,
    limits: Limits,
) -> list[Warned]:
    warnings = list(pooled[0].warnings)
    if len(pooled) > 1:
        warnings.append(
            Warned(
                rule="several_patients",
                message=f"The files are of {len(pooled)} patients: `class` is the first's; see `patients`.",
            )
        )
    if refused:
        warnings.append(
            Warned(rule="refused", message=f"Files that were not used: {len(refused)}. See `refused`.")
        )
    if (wanted.overlays or wanted.pictures) and len(opinions) > limits.pictured_slices:
        warnings.append(
            Warned(rule="pictures", message=f"Only the first {limits.pictured_slices} slices have pictures.")
        )
    return warnings
