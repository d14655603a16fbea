"""Runs slice rules with Great Expectations, and makes its Data Docs one self-contained page."""

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tumorflow.validation.findings import Finding
from tumorflow.validation.slice_rules import COLUMNS, SliceRule

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_RULE = SliceRule(
    "columns_present",
    "ExpectTableColumnsToMatchSet",
    "",
    "error",
    "The manifest has the columns that docs/artifacts.md names.",
    "Run ingestion again.",
    {"column_set": list(COLUMNS), "exact_match": False},
)

STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem; color: #222 }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 }
th, td { border-bottom: 1px solid #ddd; padding: .35rem .6rem; text-align: left; vertical-align: top }
.navbar, .ge-breadcrumbs, .navigation-sidebar, #ge-cta-footer, footer, button { display: none }
</style>"""


@dataclass(frozen=True)
class Outcome:
    """What the suite found, and its page."""

    expectations: list[dict[str, Any]]
    findings: list[Finding]
    page: str


def run_suite(manifest: "pd.DataFrame", rules: Sequence[SliceRule]) -> Outcome:
    """Returns how the manifest fares under the schema rule and under `rules` on columns that it has."""
    gx = _import_great_expectations()
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    applied = [SCHEMA_RULE, *(rule for rule in rules if rule.column in manifest.columns)]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("dataset").add_dataframe_asset("manifest")
    batch = asset.add_batch_definition_whole_dataframe("slices").get_batch({"dataframe": manifest})
    suite = gx.ExpectationSuite(name="slices", expectations=[_expectation(gx, rule) for rule in applied])
    validated = batch.validate(suite)
    # the only time in the page: without it, the same data gives the same page
    validated.meta.get("batch_markers", {}).pop("ge_load_time", None)
    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(validated))

    by_rule = {result.expectation_config.meta["rule"]: result for result in validated.results}
    expectations, findings = [], []
    for rule in applied:
        result = by_rule[rule.name]
        observed = _describe(result)
        expectations.append({"name": rule.name, "success": bool(result.success), "observed": observed})
        if not result.success:
            message = f"{rule.says} Received: {observed}."
            findings.append(Finding(rule.name, rule.severity, message, rule.remedy))
    return Outcome(expectations, findings, make_self_contained(page))


def _import_great_expectations() -> Any:
    # read at import: telemetry would hang in a closed network
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        # about its own dependencies; nothing that a user of tumorflow could mend
        warnings.simplefilter("ignore")
        import great_expectations
    return great_expectations


def _expectation(gx: Any, rule: SliceRule) -> Any:
    asks = dict(rule.asks) | ({"column": rule.column} if rule.column else {})
    severity = "critical" if rule.severity == "error" else "warning"
    return getattr(gx.expectations, rule.expectation)(
        **asks, meta={"rule": rule.name}, notes=rule.says, severity=severity
    )


def _describe(result: Any) -> str:
    """Returns in words what was observed; of values, only numbers: text may come from a header."""
    found = result.result
    if "element_count" not in found:
        missing = found.get("details", {}).get("mismatched", {}).get("missing", [])
        return f"missing columns: {', '.join(missing)}" if missing else "all columns"
    values = [value for value in found["partial_unexpected_list"] if isinstance(value, int | float)]
    numbers = sorted({f"{value:g}" for value in values if value == value})  # noqa: PLR0124 (not NaN)
    examples = f", for example {', '.join(numbers[:3])}" if numbers else ""
    return f"{found['unexpected_count']} of {found['element_count']} slices break it{examples}"


def make_self_contained(page: str) -> str:
    """Returns the page without scripts and anything from the network, styled by itself, and always the same.

    Great Expectations' own page loads its styles and scripts from content delivery networks, and numbers its
    parts at random.
    """
    page = re.sub(r"<script\b.*?</script>|<!--.*?-->|<form\b.*?</form>", "", page, flags=re.DOTALL)
    page = re.sub(r"<(?:link|img|iframe)\b[^>]*>", "", page)
    page = re.sub(r"url\([^)]*https?:[^)]*\)", "none", page)
    page = page.replace("</head>", f"{STYLE}</head>", 1)
    identifiers = dict.fromkeys(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", page))
    for number, identifier in enumerate(identifiers):
        page = page.replace(identifier, str(UUID(int=number)))
    return page
