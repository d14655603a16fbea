"""The summary of a run, for people: a few lines."""

from collections.abc import Mapping
from typing import Any

GROUP_NAMES = {"patient": "patients", "near_duplicates": "groups of near-duplicates"}
HEADLINES = ("macro_f1", "macro_auc", "accuracy", "balanced_accuracy", "calibration_error")


def describe(summary: Mapping[str, Any]) -> list[str]:
    """Returns the lines that end a run on the terminal."""
    if summary["decision"]["verdict"] == "halted":
        reasons = summary["retraining"]
        return ["", f"decision: halted, nothing was trained. {reasons['message']}"]
    metrics = summary["metrics"]
    width = max(map(len, HEADLINES))
    lines = [
        "",
        f"{'measure':<{width}}  value   interval over {GROUP_NAMES[summary['groups_from']]}",
    ]
    for name in HEADLINES:
        if name in metrics and metrics[name]["value"] is not None:
            entry = metrics[name]
            lines.append(
                f"{name:<{width}}  {entry['value']:.3f}   {_number(entry['low'])} to {_number(entry['high'])}"
            )
    lines += ["", f"decision: {summary['decision']['verdict']}"]
    for rule in summary["decision"]["rules"]:
        mark = "passed" if rule["passed"] else "FAILED"
        lines.append(
            f"  {mark}  {rule['name']}: {_brief(rule['observed'])} (required {_brief(rule['required'])})"
        )
    for rule in summary["decision"].get("not_judged", []):  # an older image tells none
        lines.append(f"  not judged  {rule['name']}: {rule['message']}")
    model = summary["model"]
    aliases = f" as {', '.join(model['aliases'])}" if model["aliases"] else ", without an alias"
    cached = sum(step["cached"] for step in summary["steps"])
    lines += [
        "",
        f"model:    {model['name']} version {model['version']}{aliases}",
        f"steps:    {len(summary['steps']) - cached} run, {cached} unchanged",
        f"memory:   {summary['peak_memory_mb']:.0f} MB at most in a step",
        f"report:   {summary['artifacts']['report']}",
    ]
    return lines


def _brief(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
