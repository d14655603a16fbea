"""`tumorflow schedule`: runs on Kubeflow that start by themselves."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumorflow.cli import add_parameter_options, parameters_of
from tumorflow.errors import UsageError
from tumorflow_pipelines.kubeflow_connection import add_connection_options, connection_of

if TYPE_CHECKING:
    from tumorflow_pipelines.kubeflow_client import Kubeflow

SUMMARY = "let runs on Kubeflow start by themselves: create, list, delete"
EXAMPLE = "tumorflow schedule create nightly --cron '0 3 * * *' --source s3://bucket/ct"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a schedule, in the place of its former self")
    create.add_argument("name", metavar="NAME", help="what the schedule is called")
    when = create.add_mutually_exclusive_group(required=True)
    when.add_argument("--cron", metavar="TEXT", help="minute, hour, day of month, month, day of week; UTC")
    when.add_argument("--every", metavar="TIME", help="an interval: 30m, 6h, 1d")
    create.add_argument(
        "--source", required=True, metavar="SOURCE", help="s3://bucket/prefix, REPO@REV or a mounted folder"
    )
    create.add_argument("--experiment", default="", metavar="NAME", help="an experiment that exists")
    create.set_defaults(action=create_schedule)
    listing = actions.add_parser("list", help="show the schedules")
    listing.set_defaults(action=list_schedules)
    deletion = actions.add_parser("delete", help="remove a schedule; a run under way goes on")
    deletion.add_argument("name", metavar="NAME", help="what the schedule is called")
    deletion.set_defaults(action=delete_schedule)
    for action in (create, listing, deletion):
        add_connection_options(action)
        add_parameter_options(action)


def run(given: argparse.Namespace) -> int:
    """Returns 0 after doing what was asked."""
    code: int = given.action(given)
    return code


def create_schedule(given: argparse.Namespace) -> int:
    """Returns 0 after making a schedule and removing every other of its name.

    The new one starts runs only when the former is gone, so that never two are at work; a command that was
    cut off between is made good by the same command.
    """
    import kfp_server_api as api

    from tumorflow.storage import ResolvedSource
    from tumorflow_pipelines import submission
    from tumorflow_pipelines.kubeflow_client import connected

    params = parameters_of(given)
    connection = connection_of(given, params.cluster.namespace)
    trigger = read_trigger(given)
    with tempfile.TemporaryDirectory(prefix="tumorflow-schedule-") as scratch:
        definition = submission.write_definition("retrain", params, Path(scratch))
        kubeflow = connected(connection)
        submission.require_reachable(given.source, params.cluster)
        experiment = submission.experiment_id(kubeflow, given.experiment)
        version = submission.upload(kubeflow, "retrain", definition)
        source = ResolvedSource(given.source, "")  # each run finds its version
        arguments = submission.describe_arguments(definition, params, source)
    asked = submission.describe_run(given.name, experiment, version, arguments, params.cluster)
    former = find_schedules(kubeflow, given.name)
    made = kubeflow.create_recurring_run(
        api.V2beta1RecurringRun(
            display_name=given.name,
            description=asked.description,
            experiment_id=experiment,
            pipeline_version_reference=asked.pipeline_version_reference,
            runtime_config=asked.runtime_config,
            service_account=asked.service_account,
            trigger=trigger,
            max_concurrency="1",
            no_catchup=True,
            mode="DISABLE",
        )
    )
    for other in former:
        kubeflow.delete_recurring_run(other.recurring_run_id)
    kubeflow.enable_recurring_run(made.recurring_run_id)
    replaced = ", in the place of its former self" if former else ""
    print(f"schedule '{given.name}': {describe_trigger(trigger)}{replaced}")
    return 0


def list_schedules(given: argparse.Namespace) -> int:
    """Returns 0 after printing a line a schedule."""
    from tumorflow_pipelines.kubeflow_client import connected

    found = own_schedules(connected(connection_of(given, parameters_of(given).cluster.namespace)))
    for entry in sorted(found, key=lambda entry: entry.display_name):
        state = "on" if entry.status == "ENABLED" else "off"
        print(f"{entry.display_name}  {state}  {describe_trigger(entry.trigger)}")
    if not found:
        print("no schedules yet")
    return 0


def delete_schedule(given: argparse.Namespace) -> int:
    """Returns 0 after removing every schedule of a name."""
    from tumorflow_pipelines.kubeflow_client import connected

    kubeflow = connected(connection_of(given, parameters_of(given).cluster.namespace))
    found = find_schedules(kubeflow, given.name)
    if not found:
        names = ", ".join(sorted(entry.display_name for entry in own_schedules(kubeflow))) or "none at all"
        raise UsageError(
            f"A schedule is deleted by its name. Received: '{given.name}'; there are: {names}. "
            "List them: tumorflow schedule list"
        )
    for entry in found:
        kubeflow.delete_recurring_run(entry.recurring_run_id)
    print(f"schedule '{given.name}': deleted; a run under way goes on", file=sys.stdout)
    return 0


def find_schedules(kubeflow: "Kubeflow", name: str) -> list[Any]:
    """Returns every schedule of a name: a command that was cut off leaves two."""
    return [entry for entry in own_schedules(kubeflow) if entry.display_name == name]


def own_schedules(kubeflow: "Kubeflow") -> list[Any]:
    """Returns the schedules of tumorflow's pipeline: names are not unique, and others have schedules, too."""
    from tumorflow_pipelines import submission

    pipeline = kubeflow.find_pipeline(submission.pipeline_name("retrain"))
    if pipeline is None:
        return []
    return [
        entry
        for entry in kubeflow.recurring_runs()
        if entry.pipeline_version_reference
        and entry.pipeline_version_reference.pipeline_id == pipeline.pipeline_id
    ]


def read_trigger(given: argparse.Namespace) -> Any:
    """Returns when runs start, as Kubeflow's API takes it.

    Raises:
        UsageError: it is neither a cron expression nor an interval.
    """
    import kfp_server_api as api

    from tumorflow_pipelines.triggers import parse_cron, parse_interval

    if given.cron is not None:
        return api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=parse_cron(given.cron)))
    seconds = str(parse_interval(given.every))
    return api.V2beta1Trigger(periodic_schedule=api.V2beta1PeriodicSchedule(interval_second=seconds))


def describe_trigger(trigger: Any) -> str:
    """Returns when runs start, for people."""
    if trigger.cron_schedule:
        return f"cron '{trigger.cron_schedule.cron}' UTC"
    return f"every {int(trigger.periodic_schedule.interval_second) // 60} min"
