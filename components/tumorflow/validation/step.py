"""Validation: `dataset` → `validation` (docs/artifacts.md)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumorflow.errors import DataError, SourceError
from tumorflow.files import write_json, write_text
from tumorflow.params import ValidateParams
from tumorflow.tracker import Tracker
from tumorflow.validation.cohort_rules import cohort_findings, units_by_class
from tumorflow.validation.findings import of_severity
from tumorflow.validation.slice_rules import COLUMNS, slice_rules
from tumorflow.validation.suite import run_suite

if TYPE_CHECKING:
    import pandas as pd


def run(params: ValidateParams, *, dataset: Path, validation: Path, tracker: Tracker) -> str:
    """Returns an empty string after writing `validation`.

    Raises:
        SourceError: the dataset has no readable manifest.
        DataError: rules of severity `error` are broken; report and Data Docs were written and tracked before.
    """
    manifest = _read_manifest(dataset)
    units = list(manifest.get("intensity_unit", []))
    outcome = run_suite(manifest, slice_rules(params, unit=units[0] if units else "HU"))
    findings = list(outcome.findings)
    statistics: dict[str, Any] = {"slices": len(manifest)}
    if set(COLUMNS) <= set(manifest.columns):
        findings += cohort_findings(manifest, params)
        statistics = describe(manifest, params)
    errors, warnings = of_severity(findings, "error"), of_severity(findings, "warning")
    report = {
        "errors": errors,
        "warnings": warnings,
        "expectations": outcome.expectations,
        "statistics": statistics,
    }
    write_json(validation / "report.json", report)
    (validation / "data_docs").mkdir()
    write_text(validation / "data_docs" / "index.html", outcome.page)
    tracker.log_metrics({"errors": float(len(errors)), "warnings": float(len(warnings))})
    # kept by the tracker, too: a step that fails leaves no artifact
    tracker.log_folder(validation, "validation")
    if errors:
        found = " ".join(
            f"({number}) {error['rule']}: {error['message']} {error['remedy']}"
            for number, error in enumerate(errors, start=1)
        )
        raise DataError(f"The data breaks {len(errors)} of the rules that training needs. {found}")
    return ""


def describe(manifest: "pd.DataFrame", params: ValidateParams) -> dict[str, Any]:
    """Returns counts for the report: slices, patients, classes, sizes and scanners."""
    units = units_by_class(manifest)
    slices = manifest["label"].value_counts()
    has_patients = bool((manifest["patient"] != "").any())
    sizes = (manifest["rows"].astype(str) + "×" + manifest["columns"].astype(str)).value_counts()
    makers = manifest["manufacturer"].value_counts()
    return {
        "slices": len(manifest),
        "patients": int(manifest.loc[manifest["patient"] != "", "patient"].nunique()),
        "distinct_contents": int(manifest["content_hash"].nunique()),
        "unlabelled_slices": int(slices.get("", 0)),
        "intensity_unit": sorted(set(manifest["intensity_unit"])),
        "classes": {
            label: {
                "slices": int(slices.get(label, 0)),
                "patients" if has_patients else "distinct_contents": int(units.get(label, 0)),
            }
            for label in params.classes
        },
        "sizes": {str(size): int(count) for size, count in sizes.items()},
        "manufacturers": {str(maker): int(count) for maker, count in makers.items() if maker},
    }


def _read_manifest(dataset: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_parquet(dataset / "manifest.parquet")
    except (OSError, ValueError) as error:
        raise SourceError(
            f"A dataset has a readable manifest.parquet. Received: {type(error).__name__}. "
            "Run ingestion again."
        ) from error
