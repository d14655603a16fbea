"""The summary of a run: for programs as JSON, for people as a few lines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tumorflow.chain import STEPS
from tumorflow.errors import TumorflowError
from tumorflow.files import read_json
from tumorflow.lineage import RECORD, combine_params_hashes, read_git_commit
from tumorflow.tracker import RegisteredVersion

GROUP_NAMES = {"patient": "patients", "near_duplicates": "groups of near-duplicates"}
HEADLINES = ("macro_f1", "macro_auc", "accuracy", "balanced_accuracy", "calibration_error")


def summarise(outputs: Mapping[str, Any], executed: Sequence[str]) -> dict[str, Any]:
    """Returns summary.json's content for a finished run.

    Args:
        outputs: artifact name → folder, and `release` → JSON text.
        executed: names of the steps that ran; the others came from the cache.
    """
    release = json.loads(outputs["release"])
    current = look_up(outputs)
    model = {**release["model"], "aliases": list(current.aliases) if current else []}
    folders = {step.output: Path(outputs.get(step.output) or "") for step in STEPS}
    folders["release"] = Path(release["uri"])
    records = {step.name: read_json(folders[step.output] / RECORD) for step in STEPS}
    preprocessing = read_json(folders["tensors"] / "preprocessing.json")
    measured = read_json(folders["evaluation"] / "metrics.json")
    lineage = records["export"]["lineage"]
    return {
        "status": "finished",
        "data_hash": lineage["data_hash"],
        "git_commit": records["export"]["git_commit"],
        "params_hash": combine_params_hashes(lineage),
        "seed": records["train"]["params"]["seed"],
        "decision": {"verdict": release["decision"], "rules": release["rules"]},
        "metrics": {name: entry for name, entry in measured.items() if name != "about"},
        "measured": measured["about"],
        "groups": preprocessing["groups"],
        "slices": preprocessing["slices"],
        "groups_from": preprocessing["groups_from"],
        "model": model,
        "artifacts": artifact_paths(folders),
        "steps": [
            {
                "name": step.name,
                "seconds": records[step.name]["seconds"],
                "cached": step.name not in executed,
                "peak_memory_mb": records[step.name]["peak_memory_mb"],
                "code_hash": records[step.name]["code_hash"],
                "content_hash": records[step.name]["content_hash"],
            }
            for step in STEPS
        ],
        "peak_memory_mb": max(record["peak_memory_mb"] for record in records.values()),
        "notice": "For research, not for clinical decisions.",
    }


def artifact_paths(folders: Mapping[str, Path]) -> dict[str, str]:
    """Returns the places of what a person or a program may want to open."""
    files = {
        "manifest": folders["dataset"] / "manifest.parquet",
        "quarantine": folders["dataset"] / "quarantine.csv",
        "data_docs": folders["validation"] / "data_docs" / "index.html",
        "keras_model": folders["model"] / "model.keras",
        "report": folders["evaluation"] / "report.html",
        "decision": folders["release"] / "decision.json",
    }
    tflite = {path.stem: path for path in sorted((folders["release"] / "tflite").glob("*.tflite"))}
    return {name: str(path) for name, path in {**folders, **files, **tflite}.items()}


def failed(error: BaseException, data_hash: str) -> dict[str, Any]:
    """Returns summary.json's content for a run that ended without a decision."""
    explained = isinstance(error, TumorflowError)
    return {
        "status": "interrupted" if isinstance(error, KeyboardInterrupt) else "failed",
        "error": {
            "message": str(error) if explained else type(error).__name__,
            "exit_code": error.exit_code if isinstance(error, TumorflowError) else 1,
        },
        "data_hash": data_hash,
        "git_commit": read_git_commit(),
        "decision": None,
    }


def look_up(outputs: Mapping[str, Any]) -> RegisteredVersion | None:
    """Returns the version that a release registered, as the registry knows it now; None: it is gone."""
    from tumorflow.tracking import look_up_version

    model = json.loads(outputs["release"])["model"]
    return look_up_version(model["name"], model["version"], model["run_id"])


def describe(summary: Mapping[str, Any]) -> list[str]:
    """Returns the lines that end a run on the terminal."""
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
