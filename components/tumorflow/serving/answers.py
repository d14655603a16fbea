"""What the service answers, as OpenAPI describes it."""

from typing import Annotated

from pydantic import BaseModel, Field

DISCLAIMER = "For research, not for clinical decisions."
Probability = Annotated[float, Field(ge=0, le=1)]


class Warned(BaseModel):
    """Something to know before an answer is believed."""

    rule: str = Field(examples=["out_of_distribution"])
    message: str


class Opinion(BaseModel):
    """What the model says."""

    predicted: str = Field(serialization_alias="class", description="The most probable class.")
    confidence: Probability = Field(description="The calibrated probability of that class.")
    probabilities: dict[str, Probability]
    warnings: list[Warned] = []


class SliceOpinion(Opinion):
    """Of one slice."""

    file: int = Field(
        description="Place of its file in the request, from 1; archives count by their entries."
    )
    frame: int = Field(description="From 1, of a file with several.")
    patient: int = Field(description="Which of `patients`, from 1.")
    position_mm: float | None = Field(None, description="Along the axis of the body, where it is known.")
    feature_distance: float | None = Field(
        None, description="How far from what the model learned from; `limit_feature_distance` is far."
    )
    picture: str | None = Field(
        None, description="PNG as a data URL: what the model saw, a window a channel."
    )
    overlay: str | None = Field(
        None, description="PNG as a data URL: Grad-CAM of the predicted class, to lay over `picture`."
    )


class PatientOpinion(Opinion):
    """Of one patient: the mean over the slices, as in the evaluation."""

    patient: int
    slices: int


class RefusedFile(BaseModel):
    """A file that was not used."""

    file: int
    rule: str = Field(examples=["not_ct"])
    reason: str
    remedy: str


class ModelFacts(BaseModel):
    """Which model answered."""

    name: str
    version: str = Field(description="In the registry; empty for a file from elsewhere.")
    variant: str
    model_hash: str = Field(description="Of the training step's output.")
    file_hash: str = Field(description="SHA-256 of the TFLite file.")
    classes: list[str]
    intensity_unit: str = Field(description="`HU`: takes DICOM; `display`: takes PNG and JPEG.")
    windows: list[tuple[float, float]] = Field(description="Center and width in HU, a channel each.")
    image_size_px: int
    limit_feature_distance: float | None


class Prediction(Opinion):
    """The answer to a request; the opinion is that of its first patient."""

    patients: list[PatientOpinion]
    slices: list[SliceOpinion]
    refused: list[RefusedFile]
    model: ModelFacts
    disclaimer: str = DISCLAIMER
    request_id: str


class Pushed(BaseModel):
    """What an archive took."""

    stored: int = Field(description="DICOM objects.")
    request_id: str


class Problem(BaseModel):
    """Why a request was refused as a whole (RFC 9457)."""

    title: str
    status: int
    rule: str
    detail: str
    request_id: str
    refused: list[RefusedFile] | None = None
