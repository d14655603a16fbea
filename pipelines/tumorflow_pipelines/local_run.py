"""Runs the compiled pipeline here with Kubeflow's own local runner, each step in a process of its own."""

import fcntl
import os
import shutil
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tumorflow.errors import TumorflowError, UsageError
from tumorflow.execution import JOB_VARIABLE
from tumorflow.files import read_json
from tumorflow_pipelines.console import Console, Progress, screen

CACHE = ".cache"


@dataclass(frozen=True)
class LocalRun:
    """What a run of the pipeline left."""

    summary: Mapping[str, Any]
    """summary.json's content; empty where the run failed."""
    progress: Progress


def run_locally(definition: Path, arguments: Mapping[str, str], root: Path, log: Path, job: str) -> LocalRun:
    """Returns what a compiled pipeline left after running it here, cached steps not again.

    Args:
        definition: the compiled YAML.
        arguments: the pipeline's arguments.
        root: folder for artifacts and the cache.
        log: file that takes everything the steps print.
        job: the run's name in MLflow.

    Raises:
        TumorflowError: a step died without saying why.
    """
    from kfp import components, local

    pipeline = components.load_component_from_file(str(definition))
    hidden = arguments["source"]  # a path may hold a name
    with (
        log.open("a") as file,
        Console(file, screen(), hidden) as console,
        _variable(JOB_VARIABLE, job),
        warnings.catch_warnings(),
    ):
        # kfp warns that an image may lack what a step needs; in process it is the same installation
        warnings.filterwarnings("ignore", message="You may be attemping", category=RuntimeWarning)
        # and that it asks this machine for no more than the machine has
        warnings.filterwarnings("ignore", message=".*have no effect", category=UserWarning)
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(root),
            enable_caching=True,
            cache_root=str(root / CACHE),
        )
        progress = console.progress
        with redirect_stdout(console), redirect_stderr(console):
            try:
                pipeline(**arguments)
            except (RuntimeError, ValueError) as error:  # the latter where an output is not there
                if progress.failure is None:
                    raise _explain_silence(progress, log) from error
        if progress.failure:
            return LocalRun({}, progress)
        # what counts is what is there: an engine may take a lost step for one that succeeded
        if progress.unfinished() or progress.summary is None:
            raise _explain_silence(progress, log)
        return LocalRun(read_json(Path(progress.summary)), progress)


def _explain_silence(progress: Progress, log: Path) -> TumorflowError:
    silent = progress.unfinished() or ["the next step"]
    return TumorflowError(
        f"Every step ends with a result or a reason. Received: {silent[0]} died without one. "
        f"The log is {log}; running again goes on where this run stopped."
    )


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Sets a variable of the environment, which the steps inherit, while the block runs."""
    former = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if former is None:
            del os.environ[name]
        else:
            os.environ[name] = former


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Holds the runs folder for one run at a time, and first sweeps what a killed run left unfinished.

    Raises:
        UsageError: another run is under way.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"One run at a time works in {root}. Received: another one is under way. "
                "Wait for it, or give --runs another folder."
            ) from error
        sweep(root)
        yield


@contextmanager
def interrupted_by_termination() -> Iterator[None]:
    """While the block runs, SIGTERM ends the step under way and then the run, as Ctrl-C does."""

    def end(_number: int, _frame: FrameType | None) -> None:
        import psutil

        for process in psutil.Process().children(recursive=True):
            process.terminate()
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def sweep(root: Path) -> None:
    """Removes what a killed step was still writing, or replacing; nothing refers to it."""
    for left in [*root.rglob(".*.partial"), *root.rglob(".*.former")]:
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
