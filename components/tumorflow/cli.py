"""The command line: one command a step, made from the chain, and the commands of installed plug-ins."""

import argparse
import atexit
import gc
import importlib
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from tumorflow import __version__
from tumorflow.chain import ALL_STEPS, Step
from tumorflow.errors import TumorflowError, UsageError
from tumorflow.params import Parameters, read_parameters

NOTICE = "For research, not for clinical decisions."
SAMPLE = "tumorflow.sampling.command"
PLUGINS = "tumorflow.commands"
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 accepted or done, 1 failure, 2 wrong use, 3 rejected by the gate."""
    atexit.register(gc.freeze)  # else Python spends a second on looking for cycles before it ends
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.command(arguments)
    except TumorflowError as error:
        print(f"tumorflow: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(
            f"tumorflow: Files can be read and written where the command works. Received: "
            f"{error.strerror or type(error).__name__}. Check the disk and its permissions, and run again.",
            file=sys.stderr,
        )
        return 1
    except Exception as error:  # noqa: BLE001 - a traceback may hold data, and helps no user
        print(f"tumorflow: {describe_unforeseen(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tumorflow: interrupted; nothing half-written was left. Run again to go on.", file=sys.stderr)
        return INTERRUPTED
    return code


def describe_unforeseen(error: Exception) -> str:
    """Returns one sentence on an error that nobody foresaw: its kind and place, not its text."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "tumorflow" in frame.filename]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return (
        f"A command ends with a result or a reason. Received: {type(error).__name__}{place}, unforeseen. "
        "An input may be damaged: write it again; else please report it."
    )


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser with every command."""
    parser = argparse.ArgumentParser(
        prog="tumorflow",
        description=f"Tumour classification in CT: from a source to a reviewed model. {NOTICE}",
    )
    parser.add_argument("--version", action="version", version=f"tumorflow {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for plugin in sorted(entry_points(group=PLUGINS), key=lambda plugin: plugin.name, reverse=True):
        module = plugin.load()
        _add_command(commands, plugin.name, module.SUMMARY, module.EXAMPLE, module)
    sample = importlib.import_module(SAMPLE)
    command = _subparser(
        commands, "sample", "write the synthetic sample cohort", "tumorflow sample --output data"
    )
    sample.add_arguments(command)
    add_parameter_options(command)
    command.set_defaults(command=lambda given: sample.run(given, parameters_of(given).sample))
    for step in ALL_STEPS:
        _add_step(commands, step)
    return parser


def _subparser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}\n\n{NOTICE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    example: str,
    module: object,
) -> None:
    command = _subparser(commands, name, summary, example)
    module.add_arguments(command)  # type: ignore[attr-defined]  # a plug-in module: add_arguments and run
    command.set_defaults(command=module.run)  # type: ignore[attr-defined]  # as above


def _add_step(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", step: Step) -> None:
    command = _subparser(commands, step.name, step.summary, step.example)
    for name in step.inputs:
        command.add_argument(f"--{name}", required=True, metavar="DIR", help=f"folder that holds the {name}")
    command.add_argument(
        f"--{step.output}",
        required=True,
        metavar="DIR",
        help=f"folder to write the {step.output} to; replaced whole",
    )
    for name, meaning in step.arguments.items():
        required = name == "source"
        command.add_argument(
            f"--{name.replace('_', '-')}",
            required=required,
            default="",
            metavar="DIR" if required else "TEXT",
            help=meaning,
        )
    command.add_argument(
        "--job", default="", metavar="NAME", help="pipeline run in MLflow that this belongs to"
    )
    add_parameter_options(command)
    command.set_defaults(command=lambda given: run_step(step, given))


def run_step(step: Step, given: argparse.Namespace) -> int:
    """Returns the exit code after running one step with the arguments of the command line."""
    from tumorflow.execution import execute

    section = parameters_of(given).section(step.params)
    returned = execute(
        step.name,
        params=section.model_dump_json(),
        inputs={name: getattr(given, name) for name in step.inputs},
        output=getattr(given, step.output),
        arguments={name: getattr(given, name) for name in step.arguments},
        job=given.job,
    )
    print(f"{step.name}: wrote {getattr(given, step.output)}")
    if returned:
        print(returned)
    return 0


def add_parameter_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where parameters come from."""
    group = parser.add_argument_group("parameters")
    group.add_argument("--params", metavar="FILE", help="parameters (default: params.yaml if it is here)")
    group.add_argument(
        "--preset",
        action="append",
        default=[],
        metavar="NAME",
        help="named settings laid over the file; repeatable",
    )
    group.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="one parameter laid over all; repeatable",
    )


def parameters_of(given: argparse.Namespace) -> Parameters:
    """Returns the parameters that the options name.

    Raises:
        ParameterError: a key is unknown or a value impossible.
        UsageError: the file is missing.
    """
    path = Path(given.params) if given.params else Path("params.yaml")
    if not path.is_file():
        if given.params:
            raise UsageError(f"--params names a readable YAML file. Received: {path}. Check the path.")
        return read_parameters(None, given.preset, given.overrides)
    return read_parameters(path, given.preset, given.overrides)
