"""`tumorflow status`: the last runs on Kubeflow, or one with its steps and its end."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumorflow.cli import NOTICE, add_parameter_options, parameters_of
from tumorflow_pipelines.kubeflow_connection import add_connection_options, connection_of

if TYPE_CHECKING:
    from tumorflow_pipelines.kubeflow_client import Kubeflow

SUMMARY = "show the last runs on Kubeflow, or one run's steps and end"
EXAMPLE = "tumorflow status 6f3c… --wait"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("run_id", nargs="?", metavar="RUN_ID", help="one run (default: list the last ones)")
    parser.add_argument("--count", type=int, default=10, metavar="N", help="how many to list (default: 10)")
    parser.add_argument("--wait", action="store_true", help="follow the run to its end")
    parser.add_argument("--output", metavar="DIR", help="folder for the run's summary.json (default: none)")
    add_connection_options(parser)
    add_parameter_options(parser)


def run(given: argparse.Namespace) -> int:
    """Returns 0, or for a run that has ended its own exit code."""
    from tumorflow_pipelines.kubeflow_client import connected
    from tumorflow_pipelines.submit_command import follow_to_end

    kubeflow = connected(connection_of(given, parameters_of(given).cluster.namespace))
    if not given.run_id:
        print("\n".join(describe_runs(kubeflow.last_runs(max(1, given.count)))))
        return 0
    output = Path(given.output) if given.output else None
    if given.wait:
        return follow_to_end(kubeflow, given.run_id, output)
    return show_run(kubeflow, given.run_id, output)


def show_run(kubeflow: "Kubeflow", run_id: str, output: Path | None) -> int:
    """Returns the exit code of a run after telling of its steps and its end; 0 while it goes on."""
    from tumorflow_pipelines.following import ENDED, changes, state_of, step_states
    from tumorflow_pipelines.outcome import conclude, run_page

    run = kubeflow.get_run(run_id)
    print(f"run: {run.display_name}, {state_of(run).lower()}, {run_page(kubeflow, run_id)}")
    for line in changes({}, step_states(run)):
        print(line)
    if state_of(run) not in ENDED:
        return 0
    outcome = conclude(kubeflow, run, output)
    print("\n".join([*outcome.lines, NOTICE]))
    return outcome.exit_code


def describe_runs(runs: list[Any]) -> list[str]:
    """Returns a line a run: its id, state, start and name."""
    if not runs:
        return ["no runs yet"]
    from tumorflow_pipelines.following import state_of

    width = max(len(state_of(run)) for run in runs)
    return [
        f"{run.run_id}  {state_of(run).lower():<{width}}  {run.created_at:%Y-%m-%d %H:%M}  {run.display_name}"
        for run in runs
    ]
