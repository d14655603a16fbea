"""Runs one step: parameters in, whole artifact out, with its record and its tracked run."""

import errno
import importlib
import json
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tumorflow import lineage
from tumorflow.chain import Step, find_step
from tumorflow.errors import SourceError, TumorflowError, UnavailableError, UsageError
from tumorflow.files import read_json, write_json, written_folder
from tumorflow.params import Parameters, Section, parse_section
from tumorflow.tracker import Tracker

ROOM_TO_WORK_BYTES = 2**20
FULL_DISK = (
    "Step {step} needs room to write. Received: the disk is full. "
    "Free space and run again; nothing half-written was left."
)


def execute(
    name: str,
    *,
    params: str,
    inputs: Mapping[str, str],
    output: str,
    arguments: Mapping[str, str] | None = None,
    job: str = "",
) -> str:
    """Returns what the step hands to the pipeline, after its output folder stands whole.

    Args:
        name: the step's name in the chain.
        params: its section of the parameters, as JSON.
        inputs: artifact name → folder.
        output: the folder to write.
        arguments: the step's own settings, by name.
        job: the pipeline run this belongs to; empty: it stands alone.

    Raises:
        TumorflowError: the step failed; the message says why, and nothing was written.
    """
    from tumorflow.tracking import track_step

    step = find_step(name)
    section = parse_section(section_type(step), params)
    given = {input_name: _require_artifact(input_name, Path(path)) for input_name, path in inputs.items()}
    _refuse_overwriting(step, Path(output), [*given.values(), *_sources(arguments or {})])
    try:
        with (
            track_step(step.name, job, section.model_dump(mode="json")) as tracker,
            written_folder(Path(output)) as folder,
        ):
            return _run(step, section, given, folder, dict(arguments or {}), tracker)
    except OSError as error:
        raise _explain_os_error(error, step) from error


def _run(
    step: Step,
    section: Section,
    inputs: Mapping[str, Path],
    folder: Path,
    arguments: Mapping[str, str],
    tracker: Tracker,
) -> str:
    started = time.monotonic()
    code_hash = lineage.hash_code(step)  # before the code runs: it may be edited meanwhile
    run = importlib.import_module(step.module).run
    returned: str = run(section, **inputs, **{step.output: folder}, **arguments, tracker=tracker)
    record = describe(
        step, section, folder, inputs, arguments, code_hash=code_hash, seconds=time.monotonic() - started
    )
    write_json(folder / lineage.RECORD, record)
    tracker.log_params({"code_hash": record["code_hash"], "content_hash": record["content_hash"]})
    tracker.log_metrics({"seconds": record["seconds"], "peak_memory_mb": record["peak_memory_mb"]})
    return returned


def execute_in_pipeline(name: str, **settings: Any) -> str:
    """Returns what `execute` returns, telling the start and the end in lines that a runner can follow.

    A failure is told as one line, and ends the process with the error's exit code, without a traceback.
    """
    print(f"step {name}: started in {settings.get('job', '')}", flush=True)
    started = time.monotonic()
    try:
        returned = execute(name, **settings)
    except Exception as unexpected:  # noqa: BLE001 - a step that dies says so, whatever it dies of
        if isinstance(unexpected, TumorflowError):
            error = unexpected
        else:
            traceback.print_exc()
            error = explain_death(name, unexpected, Path(settings["output"]).parent)
        failure = {"exit_code": error.exit_code, "message": str(error)}
        print(f"step {name}: failed {json.dumps(failure)}", flush=True)
        sys.exit(error.exit_code)
    print(f"step {name}: finished in {time.monotonic() - started:.1f} s", flush=True)
    return returned


def explain_death(name: str, error: BaseException, folder: Path) -> TumorflowError:
    """Returns what to say of an error that nobody foresaw; libraries seldom say that the disk is full.

    The error's own text is left to the log, since it may hold anything.
    """
    while not folder.exists():
        folder = folder.parent
    if shutil.disk_usage(folder).free < ROOM_TO_WORK_BYTES:
        return UnavailableError(FULL_DISK.format(step=name))
    return TumorflowError(
        f"Step {name} ends with a result or a reason. Received: {type(error).__name__}, unforeseen. "
        "The log has the details; please report it."
    )


def describe(
    step: Step,
    section: Section,
    folder: Path,
    inputs: Mapping[str, Path],
    arguments: Mapping[str, str],
    *,
    code_hash: str,
    seconds: float,
) -> dict[str, Any]:
    """Returns the record of a step that has just written `folder`: cost, hashes, lineage."""
    params = section.model_dump(mode="json")
    own = {
        "code_hash": code_hash,
        "params_hash": lineage.hash_params(params),
        "content_hash": lineage.hash_content(folder),
    }
    upstream: dict[str, Any] = {}
    for path in inputs.values():
        upstream |= read_json(path / lineage.RECORD)["lineage"]
    if arguments.get("data_hash"):
        upstream["data_hash"] = arguments["data_hash"]
    return {
        "step": step.name,
        "seconds": round(seconds, 3),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "git_commit": lineage.read_git_commit(),
        "params": params,
        **own,
        "lineage": {**upstream, step.name: own},
    }


def section_type(step: Step) -> type[Section]:
    """Returns the class of a step's parameters."""
    return type(Parameters().section(step.name))


def peak_memory_mb() -> float:
    """Returns the most memory this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _sources(arguments: Mapping[str, str]) -> list[Path]:
    return [Path(arguments["source"])] if arguments.get("source") else []


def _refuse_overwriting(step: Step, output: Path, read: Sequence[Path]) -> None:
    """Refuses an output that would replace what the step reads, or anything that this step did not write."""
    target = output.resolve()
    for path in (path.resolve() for path in read):
        if target == path or target in path.parents or path in target.parents:
            raise UsageError(
                f"The {step.output} is written apart from what the step reads. Received: --{step.output} "
                f"{output}, which is, holds or lies in an input. Name another folder."
            )
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    record = target / lineage.RECORD
    if not record.is_file() or read_json(record).get("step") != step.name:
        raise UsageError(
            f"The {step.output} replaces nothing but an earlier {step.output}. Received: --{step.output} "
            f"{output}, which holds something else. Name another folder, or remove that one."
        )


def _require_artifact(name: str, path: Path) -> Path:
    if not (path / lineage.RECORD).is_file():
        raise SourceError(
            f"The input '{name}' is a folder that a step of tumorflow has finished. Received: {path}. "
            "Run the step before it, or check the path."
        )
    return path


def _explain_os_error(error: OSError, step: Step) -> TumorflowError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UnavailableError(FULL_DISK.format(step=step.name))
    return UnavailableError(
        f"Step {step.name} needs to read its input and write its output. Received: "
        f"{type(error).__name__}, {error.strerror or 'no detail'}. Check permissions and the disk."
    )


def fail(error: TumorflowError) -> int:
    """Prints an error as one message on stderr and returns its exit code."""
    print(f"tumorflow: {error}", file=sys.stderr, flush=True)
    return error.exit_code
