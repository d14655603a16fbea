"""Follows a run on the cluster: which steps began and ended, until the run itself has ended."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tumorflow.chain import ALL_STEPS
from tumorflow.errors import UnavailableError
from tumorflow_pipelines.console import screen
from tumorflow_pipelines.kubeflow_client import Kubeflow

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
POLL_SECONDS = 5.0
SETTLE_SECONDS = 2.0
PATIENCE_SECONDS = 900.0
"""How long the server may be away before following gives up; the run does not mind."""
BOOK_KEEPING = frozenset({"resolve", "conclude", "halt", "finish"})
"""Tasks of the pipeline that are no steps; they are told of where they fail."""
_STEPS_BY_COMPONENT = {"join": "preprocess"}
"""Components of another name than the step that they do."""
_COPY = re.compile(r"-\d+$")  # Kubeflow numbers the second task of one component
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  # an unset time comes as the year 1 or 1970


@dataclass(frozen=True)
class StepState:
    """A step of a run as the server sees it."""

    task_id: str
    name: str
    state: str
    seconds: float | None
    """None while it runs, or where the server does not tell."""


def state_of(run: Any) -> str:
    """Returns a run's state; the server leaves it out until the engine has looked at the run."""
    return str(run.state or "PENDING")


def step_states(run: Any) -> list[StepState]:
    """Returns the steps that a run has come to, in the order of their start.

    The engine's own tasks (drivers, groups, executors) are left out, and book-keeping that did not fail.
    """
    known = [step.name for step in ALL_STEPS]
    found = []
    for task in all_tasks(run):
        name = _COPY.sub("", task.display_name or "")
        name = _STEPS_BY_COMPONENT.get(name, name)
        if (name in known and task.state) or (name in BOOK_KEEPING and task.state == "FAILED"):
            order = known.index(name) if name in known else len(known)
            found.append((task.start_time or _LONG_AGO, order, name, task))
    return [
        StepState(task.task_id, name, task.state, _seconds(task.start_time, task.end_time))
        for _, _, name, task in sorted(found, key=lambda entry: entry[:2])
    ]


def all_tasks(run: Any) -> list[Any]:
    """Returns whatever the engine says of a run's tasks."""
    return list((run.run_details.task_details if run.run_details else None) or [])


def follow(kubeflow: Kubeflow, run_id: str) -> Any:
    """Returns the run as it ended, after telling of each step as it starts and ends.

    Raises:
        UnavailableError: the server was away for too long.
        UsageError: it refuses, or knows no such run.
    """
    told: dict[str, str] = {}
    away_since: float | None = None
    ended = False
    while True:
        try:
            run = kubeflow.get_run(run_id)
        except UnavailableError:
            now = time.monotonic()
            if away_since is None:
                away_since = now
                _tell("  Kubeflow does not answer; the run goes on, and so does following it")
            if now - away_since > PATIENCE_SECONDS:
                raise
        else:
            away_since = None
            states = step_states(run)
            for line in changes(told, states):
                _tell(line)
            told = {step.task_id: step.state for step in states}
            if ended:
                return run
            ended = state_of(run) in ENDED
        # the server keeps a run's end a moment before that of its tasks: look once more
        time.sleep(SETTLE_SECONDS if ended else POLL_SECONDS)


def changes(told: Mapping[str, str], states: Sequence[StepState]) -> Iterator[str]:
    """Yields a line for each step that began or ended since its state was told."""
    for step in states:
        if told.get(step.task_id) == step.state:
            continue
        match step.state:
            case "RUNNING":
                yield f"{step.name} …"
            case "SUCCEEDED":
                yield f"{step.name}: done" + (f" in {step.seconds:.1f} s" if step.seconds is not None else "")
            case "FAILED":
                yield f"{step.name}: failed"
            case "CANCELED":
                yield f"{step.name}: stopped"


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None or start < _LONG_AGO or end < start:
        return None
    return (end - start).total_seconds()


def _tell(line: str) -> None:
    print(line, file=screen(), flush=True)
