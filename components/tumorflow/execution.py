"""Runs one step: parameters in, whole artifact out, with its record and its tracked run."""

import atexit
import errno
import gc
import importlib
import json
import os
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tumorflow import lineage
from tumorflow.chain import Step, find_step
from tumorflow.errors import SourceError, TumorflowError, UnavailableError, UsageError
from tumorflow.files import read_json, write_json, written_folder
from tumorflow.params import Parameters, Section, parse_section
from tumorflow.tracker import Tracker

JOB_VARIABLE = "TUMORFLOW_JOB"
"""Names the pipeline run that a step belongs to. It is no argument of the components, since Kubeflow would
take it into the key of its cache, and no step of another run would be found there."""
ROOM_TO_WORK_BYTES = 2**20
OTHER_CODE = (
    "note: this image holds another version of step {step}, or of its libraries, than who started the run "
    "has. If that is not meant, build the images of that checkout (make images) and start the run again."
)
FULL_DISK = (
    "Step {step} needs room to write. Received: the disk is full. "
    "Free space and run again; nothing half-written was left."
)


def execute(
    name: str,
    *,
    params: str,
    inputs: Mapping[str, str | Sequence[str]],
    output: str,
    arguments: Mapping[str, str] | None = None,
    job: str = "",
    uri: str = "",
    image: str = "",
) -> str:
    """Returns what the step hands to the pipeline, after its output folder stands whole.

    Args:
        name: the step's name in the chain.
        params: its section of the parameters, as JSON.
        inputs: artifact name → folder, or folders where the step takes several.
        output: the folder to write.
        arguments: the step's own settings, by name.
        job: the pipeline run this belongs to; empty: it stands alone.
        uri: where the output is kept, for the record; empty: at `output`.
        image: the container image that this runs in, for the record; empty: in none.

    Raises:
        TumorflowError: the step failed; the message says why, and nothing was written.
    """
    from tumorflow.tracking import track_step

    step = find_step(name)
    section = parse_section(section_type(step), params)
    given = {
        input_name: _require_artifact(input_name, Path(place))
        if isinstance(place, str)
        else [_require_artifact(input_name, Path(path)) for path in place]
        for input_name, place in inputs.items()
    }
    settings = dict(arguments or {})
    _refuse_overwriting(step, Path(output), [*_folders(given), *_sources(settings)])
    label = f"{step.name}-{settings['number']}" if "number" in settings else step.name
    with (
        _os_errors_explained(step),
        track_step(label, job, section.model_dump(mode="json")) as tracker,
        _os_errors_explained(step),  # within, too, so that the tracker hears the reason
        written_folder(Path(output)) as folder,
        _fetched(settings) as read,
    ):
        return _run(step, section, given, folder, read, tracker, uri=uri or output, image=image)


def _run(
    step: Step,
    section: Section,
    inputs: Mapping[str, Path | list[Path]],
    folder: Path,
    arguments: Mapping[str, str],
    tracker: Tracker,
    *,
    uri: str,
    image: str,
) -> str:
    started = time.monotonic()
    code_hash = lineage.hash_code(step)  # before the code runs: it may be edited meanwhile
    run = importlib.import_module(step.module).run
    returned: str = run(section, **inputs, **{step.output: folder}, **arguments, tracker=tracker)
    # parts belong to the step that joins them: what they came from came to it, too
    artifacts = [place for place in inputs.values() if isinstance(place, Path)]
    seconds = time.monotonic() - started
    record = describe(
        step,
        section,
        folder,
        artifacts,
        arguments,
        code_hash=code_hash,
        seconds=seconds,
        uri=uri,
        image=image,
    )
    write_json(folder / lineage.RECORD, record)
    tracker.log_params({"code_hash": record["code_hash"], "content_hash": record["content_hash"]})
    tracker.log_metrics({"seconds": record["seconds"], "peak_memory_mb": record["peak_memory_mb"]})
    return returned


def execute_in_pipeline(name: str, *, output: str, code_hash: str = "", **settings: Any) -> str:
    """Returns what `execute` returns, telling the start and the end in lines that a runner can follow.

    A failure is told as one line, and ends the process with the error's exit code, without a traceback.

    Args:
        name: the step's name in the chain.
        output: the folder to write.
        code_hash: of the step's code where the run was started; empty: unknown.
        settings: as those of `execute`.
    """
    job = os.environ.get(JOB_VARIABLE, "")
    with told(name, Path(output).parent):
        # a file of weights adds to the hash of the code
        if code_hash and code_hash.split("-", maxsplit=1)[0] != lineage.hash_code(find_step(name)):
            print(OTHER_CODE.format(step=name), flush=True)
        return execute(name, output=output, job=job, **settings)


@contextmanager
def told(name: str, folder: Path) -> Iterator[None]:
    """Tells start, end and failure of the block in lines for a runner; a failure ends the process.

    Args:
        name: what the lines call the block.
        folder: where it writes, to tell a full disk.
    """
    print(f"step {name}: started", flush=True)
    # at its end Python would look for cycles in all that TensorFlow and MLflow loaded: a second or two
    atexit.register(gc.freeze)
    started = time.monotonic()
    try:
        yield
    except Exception as unexpected:  # noqa: BLE001 - a step that dies says so, whatever it dies of
        if isinstance(unexpected, TumorflowError):
            error = unexpected
        else:
            traceback.print_exc()
            error = explain_death(name, unexpected, folder)
        failure = {"exit_code": error.exit_code, "message": str(error)}
        print(f"step {name}: failed {json.dumps(failure)}", flush=True)
        sys.exit(error.exit_code)
    print(f"step {name}: finished in {time.monotonic() - started:.1f} s", flush=True)


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
    inputs: Sequence[Path],
    arguments: Mapping[str, str],
    *,
    code_hash: str,
    seconds: float,
    uri: str,
    image: str,
) -> dict[str, Any]:
    """Returns the record of a step that has just written `folder`: cost, hashes, lineage, earlier steps."""
    params = section.model_dump(mode="json")
    own = {
        "code_hash": code_hash,
        "params_hash": lineage.hash_params(params),
        "content_hash": lineage.hash_content(folder),
    }
    upstream: dict[str, Any] = {}
    steps: dict[str, Any] = {}
    for path in inputs:
        record = read_json(path / lineage.RECORD)
        upstream |= record["lineage"]
        steps |= record.get("steps", {})
    if arguments.get("data_hash"):
        upstream["data_hash"] = arguments["data_hash"]
    cost = {
        "seconds": round(seconds, 3),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "git_commit": lineage.read_git_commit(),
        "image": image,
    }
    return {
        "step": step.name,
        **cost,
        "params": params,
        **own,
        "lineage": {**upstream, step.name: own},
        "steps": {**steps, step.name: {**cost, **own, "seed": section.seed, "uri": uri}},
    }


def section_type(step: Step) -> type[Section]:
    """Returns the class of a step's parameters."""
    return type(Parameters().section(step.params))


def peak_memory_mb() -> float:
    """Returns the most memory this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _folders(inputs: Mapping[str, Path | list[Path]]) -> list[Path]:
    return [path for place in inputs.values() for path in (place if isinstance(place, list) else [place])]


@contextmanager
def _fetched(arguments: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Yields a step's settings, its source fetched: a folder of this machine and the version of its data."""
    if not arguments.get("source"):
        yield arguments
        return
    from tumorflow.storage import fetched

    with fetched(arguments["source"], arguments.get("data_hash", "")) as reading:
        yield {**arguments, "source": str(reading.folder), "data_hash": reading.data_hash}


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


@contextmanager
def _os_errors_explained(step: Step) -> Iterator[None]:
    """Turns what the system refuses in the block into one message."""
    try:
        yield
    except OSError as error:
        raise _explain_os_error(error, step) from error


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
