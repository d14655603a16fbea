"""Answers as DICOM objects, which a PACS files beside the study: a structured report and overlays.

The report follows TID 1500 (DICOM PS3.16), unverified; codes without a standard are of the scheme
99TUMORFLOW. The patient's and study's elements are repeated as they came, since an archive files by them.
"""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tumorflow import __version__
from tumorflow.serving.answers import DISCLAIMER, PatientOpinion, Prediction, SliceOpinion

if TYPE_CHECKING:
    from pydicom import Dataset

SCHEME = "99TUMORFLOW"
MANUFACTURER = "tumorflow"
SERIES_NUMBERS = (9901, 9902)
"""Of the report and of the overlays: behind whatever a scanner wrote."""
# fmt: off
REPEATED = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge", "IssuerOfPatientID",
    "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
    "SpecificCharacterSet", "Rows", "Columns", "NumberOfFrames", "Modality", "InstanceNumber",
)
# fmt: on
# fmt: off
REQUIRED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)
# fmt: on


def read_reference(path: Path) -> "Dataset":
    """Returns of a DICOM file what its results repeat; what is missing there is empty, as type 2 allows."""
    import pydicom

    dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(REPEATED))
    for keyword in REQUIRED:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    if not dataset.get("SpecificCharacterSet", "unsaid"):
        del dataset.SpecificCharacterSet  # empty, as some write it, means the same as missing
    return dataset


def build_results(prediction: Prediction, references: Sequence["Dataset"]) -> list[bytes]:
    """Returns DICOM files: for each study a report, and for each slice that has one its overlay.

    Args:
        prediction: with pictures and overlays for the slices to be overlaid.
        references: of each of its slices, as `read_reference` returned it.
    """
    results = []
    studies: dict[tuple[int, str], list[int]] = {}
    for at, (opinion, reference) in enumerate(zip(prediction.slices, references, strict=True)):
        studies.setdefault((opinion.patient, str(reference.StudyInstanceUID)), []).append(at)
    for (patient, _), places in studies.items():
        pooled = next(each for each in prediction.patients if each.patient == patient)
        own = [references[at] for at in places]
        results.append(_encode(_build_report(prediction, pooled, own)))
        series = _uid(prediction.request_id, "overlays", own[0].StudyInstanceUID)
        for number, at in enumerate(places, start=1):
            capture = _build_overlay(prediction.slices[at], references[at], series, number)
            if capture is not None:
                results.append(_encode(capture))
    return results


def _build_report(
    prediction: Prediction, opinion: PatientOpinion, references: Sequence["Dataset"]
) -> "Dataset":
    from highdicom.sr import (
        AlgorithmIdentification,
        ComprehensiveSR,
        DeviceObserverIdentifyingAttributes,
        Measurement,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        ObserverContext,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    model = prediction.model
    study = references[0].StudyInstanceUID
    device = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=_uid(model.file_hash), name=MANUFACTURER, model_name=f"{model.name} {model.version}".strip()
        ),
    )
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=_uid(prediction.request_id, "tracking", study), identifier="whole study"
        ),
        algorithm_id=AlgorithmIdentification(
            name=f"{model.name} {model.variant}", version=model.version or model.model_hash[:12]
        ),
        measurements=[
            Measurement(
                name=Code(f"probability-{place}", SCHEME, f"Probability of {name}"),
                value=round(opinion.probabilities[name], 6),
                unit=Code("1", "UCUM", "no units"),
            )
            for place, name in enumerate(model.classes)
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(
                name=Code("predicted-class", SCHEME, "Predicted class"),
                value=Code(f"class-{model.classes.index(opinion.predicted)}", SCHEME, opinion.predicted),
            ),
            QualitativeEvaluation(
                name=Code("intended-use", SCHEME, "Intended use"),
                value=Code("research", SCHEME, DISCLAIMER),
            ),
            *(
                QualitativeEvaluation(
                    name=Code("warning", SCHEME, "Warning"),
                    value=Code(warned.rule[:16], SCHEME, warned.message[:64]),
                )
                for warned in opinion.warnings
            ),
        ],
        source_images=[SourceImageForMeasurementGroup.from_source_image(each) for each in references],
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device),
        procedure_reported=Code("77477000", "SCT", "Computed tomography"),
        imaging_measurements=[group],
    )
    return ComprehensiveSR(
        evidence=list(references),
        content=report[0],
        series_instance_uid=_uid(prediction.request_id, "report", study),
        series_number=SERIES_NUMBERS[0],
        sop_instance_uid=_uid(prediction.request_id, "report instance", study),
        instance_number=1,
        manufacturer=MANUFACTURER,
        series_description="tumorflow: research, not clinical",
        software_versions=__version__,
    )


def _build_overlay(
    opinion: SliceOpinion, reference: "Dataset", series_uid: str, number: int
) -> "Dataset | None":
    from highdicom.sc import SCImage

    if opinion.picture is None or opinion.overlay is None:
        return None
    image = SCImage.from_ref_dataset(
        ref_dataset=reference,
        pixel_array=blend(_decode(opinion.picture), _decode(opinion.overlay)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        series_instance_uid=series_uid,
        series_number=SERIES_NUMBERS[1],
        sop_instance_uid=_uid(series_uid, str(number)),
        instance_number=number,
        manufacturer=MANUFACTURER,
    )
    image.SeriesDescription = "tumorflow Grad-CAM: research, not clinical"
    image.DerivationDescription = f"{DISCLAIMER} Grad-CAM of the class {opinion.predicted}."
    image.BurnedInAnnotation = "NO"
    return image


def blend(picture: npt.NDArray[np.uint8], overlay: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns (height, width, 3) red, green, blue: the second window in grey, and the overlay on it.

    Args:
        picture: (height, width, 3) blue, green, red, a window a channel.
        overlay: (height, width, 4) blue, green, red, alpha.
    """
    grey = picture[:, :, 1:2].astype(np.float64)
    alpha = overlay[:, :, 3:].astype(np.float64) / 255 * 0.6
    mixed = grey * (1 - alpha) + overlay[:, :, 2::-1].astype(np.float64) * alpha
    blended: npt.NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return blended


def _decode(url: str) -> npt.NDArray[np.uint8]:
    import base64

    import cv2

    content = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def _uid(*sources: Any) -> str:
    # of the root for UIDs made of UUIDs (DICOM PS3.5 B.2), so that the same request has the same objects
    digest = hashlib.sha256("\n".join(map(str, sources)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _encode(dataset: "Dataset") -> bytes:
    body = BytesIO()
    dataset.save_as(body, enforce_file_format=True)
    return body.getvalue()
