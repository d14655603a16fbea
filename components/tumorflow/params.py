"""The parameters: params.yaml, read once into frozen, strict objects.

`classes` and `seed` stand once at the top and are given to every section, so that a section is all
that its step needs.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tumorflow.cluster import ClusterParams
from tumorflow.errors import ParameterError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Variant = Literal["float32", "float16", "dynamic", "int8"]
PositiveInt = Annotated[int, Field(ge=1)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_. -]+$")]


class Section(BaseModel):
    """What every step's parameters share: class names in label order, and the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    classes: tuple[str, ...] = ("normal", "benign", "malignant")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 7

    @field_validator("classes", mode="before")
    @classmethod
    def _accept_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) < 2 or len(set(value)) != len(value) or not all(value):
            raise ValueError("at least two class names, each once and none empty")
        return value


class Window(BaseModel):
    """A window of Hounsfield units (DICOM PS3.3 C.11.2.1.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    window_center_hu: Annotated[float, Field(ge=-2000, le=4000)]
    window_width_hu: Annotated[float, Field(ge=1, le=8000)]


class SampleParams(Section):
    """The synthetic cohort."""

    patients: Annotated[int, Field(ge=6, le=10_000)] = 120
    slices_per_patient: Annotated[int, Field(ge=3, le=200)] = 3
    difficulty: Fraction = 0.5


class IngestParams(Section):
    """How a source is read and labelled."""

    labels: str = ""
    """Path, relative to the source, of a CSV with the columns patient_id (or path) and label; empty:
    labels.csv if it is there, else the first folder below the source that names a class."""
    class_folders: Mapping[str, str] = Field(default_factory=dict)
    """Folder name in the source → class, where the two differ."""
    max_quarantined_fraction: Fraction = 0.5
    max_pixels: Annotated[int, Field(ge=1)] = 4096 * 4096

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, value: str) -> str:
        # the source's content hash covers only what lies in it
        if Path(value).is_absolute() or ".." in Path(value).parts:
            raise ValueError("a path below the source")
        return value

    @model_validator(mode="after")
    def _check_class_folders(self) -> "IngestParams":
        if set(self.class_folders.values()) - set(self.classes):
            raise ValueError(f"class_folders maps folders to classes ({', '.join(self.classes)})")
        return self


class ValidateParams(Section):
    """What the data must satisfy."""

    min_patients_per_class: Annotated[int, Field(ge=3)] = 3
    max_slice_thickness_mm: Annotated[float, Field(gt=0)] = 10.0
    max_unlabelled_fraction: Fraction = 0.5
    """Slices without a label are left out, unless they are more than this."""


class PreprocessParams(Section):
    """Pixels to tensors, and the split."""

    method: Literal["windows", "article"] = "windows"
    image_size_px: Annotated[int, Field(ge=32, le=1024)] = 224
    windows: tuple[Window, ...] = (
        Window(window_center_hu=-600, window_width_hu=1500),
        Window(window_center_hu=40, window_width_hu=400),
        Window(window_center_hu=300, window_width_hu=1500),
    )
    shard_slices: PositiveInt = 256
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    near_duplicate_similarity: Annotated[float, Field(ge=0.3, le=1.0)] = 0.5
    """Correlation of outlines from which two slices without a patient count as one scan. On IQ-OTH/NCCD 0.5
    joins neighbours and few strangers; at 0.4 strangers chain into one giant group."""
    parallel_parts: Annotated[int, Field(ge=1, le=64)] = 1
    """In how many parts, side by side, a pipeline prepares the slices; results do not depend on it."""

    @field_validator("windows", mode="before")
    @classmethod
    def _accept_windows_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("windows")
    @classmethod
    def _check_windows(cls, value: tuple[Window, ...]) -> tuple[Window, ...]:
        if len(value) not in (1, 3):
            raise ValueError("one window (copied to three channels) or three windows")
        return value


class TrainParams(Section):
    """The network and its training."""

    backbone: Literal["efficientnet_lite0", "efficientnet_b0"] = "efficientnet_lite0"
    weights: str = "imagenet"
    """`imagenet`, `none`, or the path of a Keras weights file."""
    attention: Literal["none", "cbam"] = "none"
    dense_units: Annotated[int, Field(ge=1, le=8192)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    fine_tune: bool = False
    """Train the backbone too (not its batch normalisation), once the head has learned on the frozen one."""
    fine_tune_learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-5
    refit: bool = True
    """Learn anew from the training and validation slices together, for as many epochs as were best on the
    validation slices; not where the backbone is trained too."""
    cache_features: bool = True
    """Run the frozen backbone once, instead of in every epoch; same result, many times faster."""
    batch_size: PositiveInt = 32
    epochs: PositiveInt = 100
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 3e-4
    early_stopping_patience: PositiveInt = 10
    imbalance: Literal["class_weights", "oversampling", "none"] = "class_weights"
    augmented_views: Annotated[int, Field(ge=0, le=64)] = 0
    """Augmented copies of each training slice: with cached features beside the slice itself and drawn once;
    otherwise in its place and drawn anew in every epoch. A frozen backbone gained nothing from them."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    shift_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    shear_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    zoom_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    horizontal_flip: bool = False


class MeasuredSection(Section):
    """How metrics and their confidence intervals are made."""

    bootstrap_resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Of whole patients."""
    confidence_level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    calibration_bins: Annotated[int, Field(ge=2, le=100)] = 10


class EvaluateParams(MeasuredSection):
    """How the model is measured and what the gate asks."""

    gradcam_slices: Annotated[int, Field(ge=0, le=64)] = 6
    min_population_groups: PositiveInt = 5
    min_macro_f1: Fraction = 0.6
    min_macro_auc: Fraction = 0.8
    min_class_recall: Fraction = 0.4
    max_calibration_error: Fraction = 0.25
    min_test_groups_per_class: PositiveInt = 3
    require_better_than_chance: bool = True
    """The lower confidence bound of balanced accuracy beats always answering with the majority class."""
    champion_margin: Fraction = 0.1
    """The lower confidence bound of the difference from the champion, in macro-F1 and in macro AUC, is above
    minus this. In simulations an equally good model mostly clears 0.1 from sixty test patients on, 0.05 from
    some hundreds."""


class ExportParams(MeasuredSection):
    """TFLite, its parity with Keras, and the registered name; measured as in `evaluate` unless given."""

    registered_model: ModelName = "tumorflow-ct"
    variants: tuple[Variant, ...] = ("float32", "float16", "dynamic", "int8")
    required_variants: tuple[Variant, ...] = ("float32",)
    """A model is rejected if one of these misses parity; any other that does is left out of the release."""
    calibration_slices: PositiveInt = 96
    """Training slices, drawn by class and group, from which quantisation learns the range of values."""
    int8_input_output: Literal["float32", "int8", "uint8"] = "float32"
    """Type of what int8 takes and gives; the file says scale and zero point."""
    licence: str = "research use only; ImageNet weights of the backbone: Apache-2.0"
    """Of the model, as its files say it."""
    min_label_agreement: Fraction = 0.95
    min_class_label_agreement: Fraction = 0.9
    """Of the test slices of each class."""
    max_probability_difference: Fraction = 0.2
    max_logit_difference: Annotated[float, Field(gt=0)] = 2.0
    max_auc_loss: Fraction = 0.02
    """The lower confidence bound of the change of macro ROC AUC is above minus this."""
    max_calibration_loss: Fraction = 0.1
    """The upper confidence bound of the change of the expected calibration error is below this."""

    @field_validator("variants", "required_variants", mode="before")
    @classmethod
    def _accept_variants_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _check_required_variants(self) -> "ExportParams":
        if set(self.required_variants) - set(self.variants):
            raise ValueError("required_variants are among variants")
        return self


class RetrainParams(Section):
    """When new data are worth a new model."""

    registered_model: ModelName = "tumorflow-ct"
    """Whose champion is the yardstick; `export.registered_model` unless it is given."""
    min_new_patients: PositiveInt = 10
    """Patients (slices, where the source names no patients) that the champion does not know."""


class Parameters(BaseModel):
    """The whole of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sample: SampleParams = SampleParams()
    ingest: IngestParams = IngestParams()
    validate_: ValidateParams = Field(default=ValidateParams(), alias="validate")
    preprocess: PreprocessParams = PreprocessParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    export: ExportParams = ExportParams()
    retrain: RetrainParams = RetrainParams()
    cluster: ClusterParams = ClusterParams()

    @model_validator(mode="before")
    @classmethod
    def _share_classes_and_seed(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("a mapping of sections")
        shared = {key: value[key] for key in ("classes", "seed") if key in value}
        sections = {key: section for key, section in value.items() if key not in shared}
        for name in SECTION_NAMES:
            section = {} if sections.get(name) is None else sections[name]
            if isinstance(section, dict):
                sections[name] = {**shared, **section}
        evaluated, exported, retrained = (sections[name] for name in ("evaluate", "export", "retrain"))
        if isinstance(evaluated, dict) and isinstance(exported, dict):
            measured = {key: evaluated[key] for key in MEASURED if key in evaluated}
            sections["export"] = exported = {**measured, **exported}
        if isinstance(exported, dict) and isinstance(retrained, dict) and "registered_model" in exported:
            sections["retrain"] = {"registered_model": exported["registered_model"], **retrained}
        return sections

    def section(self, name: str) -> Section:
        """Returns the section called `name`, as its step takes it."""
        section: Section = getattr(self, "validate_" if name == "validate" else name)
        return section


MEASURED = ("bootstrap_resamples", "confidence_level", "calibration_bins")
"""Keys of `evaluate` that `export` measures by, too."""
SECTION_NAMES = ("sample", "ingest", "validate", "preprocess", "train", "evaluate", "export", "retrain")

SectionType = TypeVar("SectionType", bound=Section)


def parse_section(section_type: type[SectionType], text: str) -> SectionType:
    """Returns a section from its JSON text, as a pipeline hands it to a step.

    Raises:
        ParameterError: a key is unknown or a value impossible.
    """
    try:
        return section_type.model_validate_json(text)
    except ValidationError as error:
        raise ParameterError(explain(error, prefix="")) from error


def read_parameters(
    path: Path | None, presets: Sequence[str] = (), overrides: Sequence[str] = ()
) -> Parameters:
    """Returns the parameters: defaults, then the file, then presets in order, then `KEY=VALUE` overrides.

    Raises:
        ParameterError: a file, preset or key is unknown, or a value impossible.
    """
    import yaml

    tree: dict[str, Any] = {}
    sources = [] if path is None else [path]
    sources += [find_preset(name) for name in presets]
    for source in sources:
        try:
            layer = yaml.safe_load(source.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ParameterError(
                f"Parameters are a readable YAML file. Received: {source} ({type(error).__name__}). "
                "Check the path and the file's indentation."
            ) from error
        if not isinstance(layer, dict):
            raise ParameterError(
                f"Parameters are a mapping of sections. Received: a {type(layer).__name__} in {source}."
            )
        tree = merge(tree, layer)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise ParameterError(
                f"An override reads SECTION.KEY=VALUE. Received: '{override}'. "
                "For example: --set train.epochs=5"
            )
        try:
            layer = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ParameterError(
                f"The value of an override is YAML. Received: '{override}'. Quote it, or close its brackets."
            ) from error
        for part in reversed(key.split(".")):
            layer = {part: layer}
        tree = merge(tree, layer)
    try:
        return Parameters.model_validate_json(to_json(tree))
    except ValidationError as error:
        raise ParameterError(explain(error, prefix="")) from error


def to_json(tree: Any) -> str:
    """Returns the tree as JSON, the form in which strict parsing takes lists for tuples."""
    import json

    return json.dumps(tree, default=str)


def merge(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with `layer` laid over it; mappings are merged, everything else replaced."""
    merged = dict(base)
    for key, value in layer.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def find_preset(name: str) -> Path:
    """Returns the path of a preset that ships with tumorflow.

    Raises:
        ParameterError: there is no such preset.
    """
    folder = Path(__file__).parent / "presets"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ParameterError(f"A preset is one of {', '.join(known)}. Received: '{name}'.")
    return folder / f"{name}.yaml"


def explain(error: ValidationError, prefix: str) -> str:
    """Returns one sentence a fault: the key, the rule and the value received."""
    lines = []
    for fault in error.errors():
        key = ".".join([prefix, *map(str, fault["loc"])]).strip(".") or "params"
        rule = "the key is unknown" if fault["type"] == "extra_forbidden" else fault["msg"].lower()
        value = re.sub(r"//[^/\s]+@", "//…@", repr(fault["input"]))  # an address may hold a password
        received = "" if fault["type"] == "extra_forbidden" else f" Received: {value}."
        lines.append(f"Parameter '{key}': {rule}.{received}")
    return " ".join(lines) + " See params.yaml for every key and its meaning."
