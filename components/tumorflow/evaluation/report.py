"""The report: one HTML file that needs nothing else, no network, no script, no folder beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumorflow.bootstrap import Estimate
from tumorflow.evaluation.comparison import Comparison
from tumorflow.evaluation.gate import Rule, Unjudged
from tumorflow.evaluation.populations import Population
from tumorflow.report_page import render_page

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Explanation:
    """A test slice with its Grad-CAM picture."""

    picture: bytes
    actual: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Findings:
    """All that the report tells; `metrics` are by name as in metrics.json."""

    decision: str
    rules: Sequence[Rule]
    unjudged: Sequence[Unjudged]
    comparison: Comparison | None
    """With the champion; None where there is none."""
    metrics: Mapping[str, Estimate]
    patient_metrics: Mapping[str, Estimate]
    """Without their prefix; empty where groups are not patients."""
    patients_left_out: int
    about: Mapping[str, Any]
    populations: Sequence[Population]
    explanations: Sequence[Explanation]
    pictures: Mapping[str, bytes]
    """PNG by name: roc, confusion, reliability, intervals, history."""
    confusion: Sequence[Sequence[int]]
    preprocessing: Mapping[str, Any]
    training: Mapping[str, Any]
    warnings: Sequence[Mapping[str, str]]
    """Validation's warnings: rule, message and remedy."""
    lineage: Mapping[str, Any]


def render(findings: Findings) -> str:
    """Returns the report as HTML; every text from outside is escaped."""
    patients = findings.preprocessing["groups_from"] == "patient"
    return render_page(
        Path(__file__).with_name("report.html"),
        findings=findings,
        classes=findings.preprocessing["classes"],
        splits=SPLITS,
        from_patients=patients,
        unit="patients" if patients else "groups",
        failed=[rule for rule in findings.rules if not rule.passed],
        steps={name: step for name, step in findings.lineage.items() if isinstance(step, Mapping)},
    )
