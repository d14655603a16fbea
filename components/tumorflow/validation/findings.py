"""What validation found: a rule that does not hold, with a remedy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """A rule that the data breaks. `message` says the rule and what was received, never of whom."""

    rule: str
    severity: Severity
    message: str
    remedy: str


def of_severity(findings: Sequence[Finding], severity: Severity) -> list[dict[str, str]]:
    """Returns the findings of a severity as `{rule, message, remedy}`."""
    chosen = [asdict(finding) for finding in findings if finding.severity == severity]
    return [{key: finding[key] for key in ("rule", "message", "remedy")} for finding in chosen]
