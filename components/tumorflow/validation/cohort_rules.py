"""Rules on the data set as a whole: can it be split, and does anything but anatomy give the class away?"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tumorflow.params import ValidateParams
from tumorflow.validation.findings import Finding

if TYPE_CHECKING:
    import pandas as pd

SHORTCUT_COLUMNS = (
    "manufacturer", "scanner_model", "convolution_kernel", "tube_voltage_kv", "slice_thickness_mm", "size",
)  # fmt: skip
MIN_SHORTCUT_UNITS = 5
"""Patients (or images) with one value and one class before it is more than chance."""
FEW_SLICES = 100
FEW_UNITS = 10


def cohort_findings(manifest: "pd.DataFrame", params: ValidateParams) -> list[Finding]:
    """Returns the rules on the whole that the manifest breaks, errors and warnings."""
    labelled = manifest[manifest["label"].isin(params.classes)]
    return [
        *_check_units(manifest),
        *_check_labels(manifest, labelled, params),
        *_check_classes(labelled, params),
        *_check_patients(manifest),
        *_check_shortcuts(labelled),
        *_check_amount(labelled),
    ]


def units_by_class(manifest: "pd.DataFrame") -> "pd.Series[int]":
    """Returns how many patients each label has; images without a patient count one by one."""
    return unit_of(manifest).groupby(manifest["label"]).nunique()


def unit_of(manifest: "pd.DataFrame") -> "pd.Series[str]":
    """Returns the patient of each slice, or its content where the source has none."""
    return manifest["patient"].where(manifest["patient"] != "", manifest["content_hash"])


def _unit_word(manifest: "pd.DataFrame") -> str:
    return "patients" if (manifest["patient"] != "").any() else "distinct images"


def _check_units(manifest: "pd.DataFrame") -> Iterator[Finding]:
    units = sorted(set(manifest["intensity_unit"]))
    if len(units) != 1 or units[0] not in ("HU", "display"):
        yield Finding(
            "one_intensity_unit",
            "error",
            f"All slices are in one unit, HU or display. Received: {', '.join(units) or 'no slice'}.",
            "Ingest DICOM files and images apart.",
        )


def _check_labels(
    manifest: "pd.DataFrame", labelled: "pd.DataFrame", params: ValidateParams
) -> Iterator[Finding]:
    unlabelled = int((manifest["label"] == "").sum())
    if not unlabelled:
        return
    too_many = unlabelled > params.max_unlabelled_fraction * len(manifest) or labelled.empty
    yield Finding(
        "unlabelled_slices",
        "error" if too_many else "warning",
        f"At most {params.max_unlabelled_fraction:.0%} of the slices lack a label; they are left out. "
        f"Received: {unlabelled} of {len(manifest)}.",
        "Give labels in a CSV (ingest.labels: patient_id,label) or by folder; or raise "
        "validate.max_unlabelled_fraction.",
    )


def _check_classes(labelled: "pd.DataFrame", params: ValidateParams) -> Iterator[Finding]:
    counts = units_by_class(labelled)
    word = _unit_word(labelled)
    empty = [label for label in params.classes if label not in counts.index]
    if len(counts) < 2:
        found = ", ".join(f"'{label}'" for label in counts.index) or "none"
        yield Finding(
            "several_classes",
            "error",
            f"At least two classes have slices. Received: {found}.",
            "Add data or labels of other classes: there is nothing to tell apart.",
        )
    if empty:
        yield Finding(
            "no_empty_class",
            "error",
            f"Every class has slices. Received: none of {', '.join(empty)}.",
            "Add data of these classes, check their spelling in the labels, or leave them out of `classes`.",
        )
    scarce = counts[counts < params.min_patients_per_class]
    if len(scarce):
        found = ", ".join(f"'{label}' has {count}" for label, count in scarce.items())
        yield Finding(
            "patients_per_class",
            "error",
            f"Every class has at least {params.min_patients_per_class} {word}, so that each of training, "
            f"validation and test gets one: with fewer, this data cannot be split. Received: {found}.",
            "Add patients of these classes, or leave the classes out of `classes`.",
        )


def _check_patients(manifest: "pd.DataFrame") -> Iterator[Finding]:
    known = manifest[manifest["patient"] != ""]
    patients = known["patient"].nunique()
    least = 3  # training, validation, test
    if 0 < patients < least:
        yield Finding(
            "splittable",
            "error",
            f"Training, validation and test need at least {least} patients in all, because no patient may be "
            f"in two of them. Received: {patients}: this data cannot be split.",
            "Add patients to the source.",
        )
    several = int((known[known["label"] != ""].groupby("patient")["label"].nunique() > 1).sum())
    if several:
        yield Finding(
            "one_label_a_patient",
            "warning",
            f"A patient has one label. Received: {several} of {patients} with several; each of them stays on "
            "one side of the split and counts as the class that most of the slices have.",
            "Check the labels; label by patient where the diagnosis is the patient's.",
        )
    copies = int((known.groupby("content_hash")["patient"].nunique() > 1).sum())
    if copies:
        yield Finding(
            "content_of_one_patient",
            "warning",
            f"No two patients share an image. Received: {copies} images that several have; they stay "
            "on one side of the split.",
            "Check whether one patient came under two IDs.",
        )
    named = manifest[manifest["label"] != ""]
    contradicting = int((named.groupby("content_hash")["label"].nunique() > 1).sum())
    if contradicting:
        yield Finding(
            "one_label_a_content",
            "warning",
            f"Equal images have equal labels. Received: {contradicting} images with several labels.",
            "Correct the labels: a model cannot learn both.",
        )


def _check_shortcuts(labelled: "pd.DataFrame") -> Iterator[Finding]:
    if labelled["label"].nunique() < 2:
        return
    size = labelled["rows"].astype(str) + "×" + labelled["columns"].astype(str)
    described = labelled.assign(size=size, unit=unit_of(labelled))
    for column in SHORTCUT_COLUMNS:
        known = described[described[column].notna() & (described[column].astype(str) != "")]
        by_value = known.groupby(column).agg(
            labels=("label", "nunique"), label=("label", "first"), units=("unit", "nunique")
        )
        leaks = by_value[(by_value["labels"] == 1) & (by_value["units"] >= MIN_SHORTCUT_UNITS)]
        if len(leaks):
            found = "; ".join(
                f"{value} only in '{row.label}' ({row.units} {_unit_word(labelled)})"
                for value, row in zip(leaks.index, leaks.itertuples(), strict=True)
            )
            yield Finding(
                f"shortcut_{column}",
                "warning",
                f"Every value of {column} occurs in more than one class, or a model may learn it instead of "
                f"the tumour. Received: {found}.",
                "Add such data of the other classes, or leave it out; see the populations in the evaluation.",
            )


def _check_amount(labelled: "pd.DataFrame") -> Iterator[Finding]:
    counts = units_by_class(labelled)
    few = counts[counts < FEW_UNITS]
    if len(counts) and (len(labelled) < FEW_SLICES or len(few)):
        found = ", ".join(f"'{label}' {count}" for label, count in counts.items())
        yield Finding(
            "enough_data",
            "warning",
            f"There are at least {FEW_SLICES} slices, and {FEW_UNITS} {_unit_word(labelled)} a class; with "
            f"fewer the metrics' intervals say little. Received: {len(labelled)} slices; {found}.",
            "Add data.",
        )
