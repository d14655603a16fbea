"""How a run on the cluster ended: its summary from MLflow, its lines for people, its exit code."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumorflow.conclusion import HALTED
from tumorflow.errors import TumorflowError
from tumorflow.files import write_json
from tumorflow_pipelines import summary
from tumorflow_pipelines.following import all_tasks, step_states
from tumorflow_pipelines.kubeflow_client import Kubeflow
from tumorflow_pipelines.kubeflow_refusals import MESSAGE_CHARACTERS

EXIT_CODES = {"rejected": 3}
"""Of a run that succeeded, by its verdict; every other is 0."""


@dataclass(frozen=True)
class Outcome:
    """What to say of a run that ended."""

    exit_code: int
    lines: tuple[str, ...]


def conclude(kubeflow: Kubeflow, run: Any, output: Path | None) -> Outcome:
    """Returns the outcome of a run that succeeded, after writing its summary to `output`/summary.json.

    Raises:
        TumorflowError: the run failed; the message says why, with the exit code of what failed.
    """
    told, note = fetch_summary(run.run_id)
    if told is not None and output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "summary.json", told)
    if run.state != "SUCCEEDED":
        raise explain_failure(kubeflow, run, told)
    if told is None or told["decision"] is None:
        verdict = verdict_by_branch(kubeflow, run)
        note = note or "note: MLflow's summary tells of a failure, and Kubeflow of none"
        return Outcome(EXIT_CODES.get(verdict, 0), (note, f"decision: {verdict or 'not known here'}"))
    verdict = told["decision"]["verdict"]
    lines = summary.describe(told)
    written = () if output is None else (f"summary:  {output / 'summary.json'}",)
    return Outcome(EXIT_CODES.get(verdict, 0), (*lines, *written))


def fetch_summary(run_id: str) -> tuple[dict[str, Any] | None, str]:
    """Returns a run's summary from MLflow; where it cannot be had, None and a line that says why."""
    from tumorflow.tracking import default_tracking_uri, tracking_uri
    from tumorflow.tracking import fetch_summary as fetch

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if tracking_uri() == default_tracking_uri():
        why = "MLFLOW_TRACKING_URI is not set here"
    else:
        try:
            told = fetch(run_id)
        except TumorflowError as error:
            why = str(error)
        else:
            if told is not None:
                return told, ""
            why = "MLflow holds none for it"
    return None, (
        f"note: the summary stays in MLflow: {why}. Set MLFLOW_TRACKING_URI to the cluster's MLflow as it is "
        f"reached from here, then: tumorflow status {run_id}"
    )


def verdict_by_branch(kubeflow: Kubeflow, run: Any) -> str:
    """Returns the decision as the branch tells it that a run took; empty where none does."""
    done = {task.display_name for task in all_tasks(run) if task.state == "SUCCEEDED"}
    if "halt" in done:
        return HALTED
    for task, alias in release_aliases(kubeflow.definition_of(run)).items():
        if task in done:
            return "accepted" if alias else "rejected"
    return ""


def release_aliases(spec: Mapping[str, Any]) -> dict[str, str]:
    """Returns each task that releases a model, with the alias that it gives: only an accepted one has any."""
    found = {}
    for component in spec.get("components", {}).values():
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            alias = task.get("inputs", {}).get("parameters", {}).get("alias", {}).get("runtimeValue")
            if alias is not None:
                found[name] = str(alias.get("constant", ""))
    return found


def explain_failure(kubeflow: Kubeflow, run: Any, told: Mapping[str, Any] | None) -> TumorflowError:
    """Returns what ended a run, in the words of the step that failed where MLflow has them."""
    reason = (told or {}).get("error")
    if reason:
        error = TumorflowError(reason["message"])
        error.exit_code = int(reason["exit_code"])
        return error
    failed = [step.name for step in step_states(run) if step.state == "FAILED"]
    said = " ".join((run.error.message or "").split())[:MESSAGE_CHARACTERS] if run.error else ""
    what = f"{', '.join(failed) or 'no step'} failed" if run.state == "FAILED" else str(run.state).lower()
    return TumorflowError(
        f"A run ends with a decision. Received: {what}{f', {said!r}' if said else ''}. The logs are at "
        f"{run_page(kubeflow, run.run_id)}"
    )


def run_page(kubeflow: Kubeflow, run_id: str) -> str:
    """Returns the address of a run's page."""
    return f"{kubeflow.connection.place}/#/runs/details/{run_id}"
