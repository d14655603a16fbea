"""Rules on each slice, as expectations of Great Expectations over the manifest's columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tumorflow.params import ValidateParams
from tumorflow.validation.findings import Severity

# docs/artifacts.md says what each column means
COLUMNS = (
    "slice_id", "path", "patient", "study", "series", "label", "intensity_unit", "rows", "columns",
    "row_spacing_mm", "column_spacing_mm", "slice_thickness_mm", "slice_position_mm", "rescale_slope",
    "rescale_intercept", "manufacturer", "scanner_model", "convolution_kernel", "tube_voltage_kv", "sex",
    "age_years", "intensity_min", "intensity_p01", "intensity_mean", "intensity_p99", "intensity_max",
    "intensity_std", "content_hash",
)  # fmt: skip


@dataclass(frozen=True)
class SliceRule:
    """One expectation: its class in Great Expectations, the column, and what it asks of every slice."""

    name: str
    expectation: str
    column: str
    severity: Severity
    says: str
    remedy: str
    asks: Mapping[str, Any] = field(default_factory=dict)


def _between(low: float | None, high: float | None) -> dict[str, float | None]:
    return {"min_value": low, "max_value": high}


SET, RANGE, NOT_NULL, UNIQUE, REGEX = (
    f"ExpectColumnValuesTo{ending}"
    for ending in ("BeInSet", "BeBetween", "NotBeNull", "BeUnique", "MatchRegex")
)


def slice_rules(params: ValidateParams, unit: str) -> tuple[SliceRule, ...]:
    """Returns the rules for slices in `unit`: `HU` (CT) or `display` (grey images)."""
    every = (
        SliceRule(
            "slice_id_unique", UNIQUE, "slice_id", "error",
            "Every slice has an ID of its own.", "Run ingestion again.",
        ),
        SliceRule(
            "path_unique", UNIQUE, "path", "error",
            "Every slice has a file of its own.", "Run ingestion again.",
        ),
        SliceRule(
            "content_hash_present", REGEX, "content_hash", "error",
            "Every slice has the SHA-256 of its content.", "Run ingestion again.",
            {"regex": "^[0-9a-f]{64}$"},
        ),
        SliceRule(
            "label_known", SET, "label", "error",
            f"A label is one of {', '.join(params.classes)}, or empty.",
            "Correct the labels, map folder names in ingest.class_folders, or name the class in `classes`.",
            {"value_set": [*params.classes, ""]},
        ),
        SliceRule(
            "rows_plausible", RANGE, "rows", "error",
            "A slice has at least 64 rows.", "Remove localisers, thumbnails and cropped patches.",
            _between(64, None),
        ),
        SliceRule(
            "columns_plausible", RANGE, "columns", "error",
            "A slice has at least 64 columns.", "Remove localisers, thumbnails and cropped patches.",
            _between(64, None),
        ),
        SliceRule(
            "contrast_present", RANGE, "intensity_std", "warning",
            "A slice is not constant.", "Remove empty slices: there is nothing to learn from them.",
            {"min_value": 0, "strict_min": True},
        ),
        SliceRule(
            "sex_known_code", SET, "sex", "error",
            "Sex is F, M, O or empty (DICOM PS3.3 C.7.1.1).", "Run ingestion again.",
            {"value_set": ["F", "M", "O", ""]},
        ),
        SliceRule(
            "age_plausible", RANGE, "age_years", "error",
            "An age lies within 0 and 90 years (over 89 is kept as 90).", "Run ingestion again.",
            _between(0, 90),
        ),
    )  # fmt: skip
    return every + (_computed_tomography(params) if unit == "HU" else _display_grey())


def _computed_tomography(params: ValidateParams) -> tuple[SliceRule, ...]:
    rescale = "Check rescale slope and intercept (0028,1053) and (0028,1052) of the source."
    return (
        SliceRule(
            "patient_known", REGEX, "patient", "error",
            "Every CT slice belongs to a patient.", "Complete Patient ID (0010,0020) in the source.",
            {"regex": "."},
        ),
        *(
            SliceRule(
                f"{column}_plausible", RANGE, column, "error",
                "Pixel spacing lies within 0.1 and 3 mm.", "Check Pixel Spacing (0028,0030) of the source.",
                _between(0.1, 3),
            )
            for column in ("row_spacing_mm", "column_spacing_mm")
        ),
        SliceRule(
            "spacing_known", NOT_NULL, "row_spacing_mm", "warning",
            "Pixel spacing is known.", "Complete Pixel Spacing (0028,0030) in the source.",
        ),
        SliceRule(
            "thickness_plausible", RANGE, "slice_thickness_mm", "error",
            f"A slice is thicker than 0 and at most {params.max_slice_thickness_mm:g} mm.",
            "Leave thick series out, or raise validate.max_slice_thickness_mm.",
            _between(0, params.max_slice_thickness_mm) | {"strict_min": True},
        ),
        SliceRule(
            "rescale_known", NOT_NULL, "rescale_slope", "error",
            "Every CT slice has a rescale slope and intercept (DICOM PS3.3 C.8.2.1).", rescale,
        ),
        SliceRule(
            "hounsfield_mean_plausible", RANGE, "intensity_mean", "error",
            "The mean of a body slice lies within −1500 and 400 HU.", rescale, _between(-1500, 400),
        ),
        SliceRule(
            "hounsfield_p99_plausible", RANGE, "intensity_p99", "error",
            "The densest hundredth of a body slice lies within −300 and 3100 HU: tissue, bone or metal.",
            rescale, _between(-300, 3100),
        ),
        SliceRule(
            "hounsfield_minimum_plausible", RANGE, "intensity_min", "warning",
            "The least value lies within −3072 (padding) and −200 HU (air in or around the body).", rescale,
            _between(-3072, -200),
        ),
        SliceRule(
            "hounsfield_maximum_plausible", RANGE, "intensity_max", "warning",
            "The largest value lies within 0 and 4095 HU, or the extended scale of a metal implant.", rescale,
            _between(0, 31743),
        ),
        SliceRule(
            "tube_voltage_plausible", RANGE, "tube_voltage_kv", "warning",
            "Tube voltage lies within 60 and 150 kV.", "Check KVP (0018,0060) of the source.",
            _between(60, 150),
        ),
    )  # fmt: skip


def _display_grey() -> tuple[SliceRule, ...]:
    return tuple(
        SliceRule(
            f"grey_{end}_in_range", RANGE, f"intensity_{end}", "error",
            "Grey values lie within 0 and 255.", "Run ingestion again.", _between(0, 255),
        )
        for end in ("min", "max")
    )  # fmt: skip
