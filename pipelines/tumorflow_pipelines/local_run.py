"""Runs the compiled pipeline with Kubeflow's own local runner, each step in a process of its own."""

import fcntl
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
from tumorflow_pipelines.console import Console, Progress, screen

CACHE = ".cache"


@dataclass(frozen=True)
class LocalRun:
    """What a run of the pipeline left."""

    outputs: Mapping[str, Any]
    """Artifact name → folder, and `release` → JSON text; empty where the run failed."""
    progress: Progress


def run_locally(definition: Path, arguments: Mapping[str, str], root: Path, log: Path) -> LocalRun:
    """Returns the outputs of a compiled pipeline after running it in process, cached steps not again.

    Args:
        definition: the compiled YAML.
        arguments: the pipeline's arguments.
        root: folder for artifacts and the cache.
        log: file that takes everything the steps print.

    Raises:
        TumorflowError: a step died without saying why.
    """
    from kfp import components, local

    pipeline = components.load_component_from_file(str(definition))
    hidden = arguments["source"]  # a path may hold a name
    with log.open("w") as file, Console(file, screen(), hidden) as console, warnings.catch_warnings():
        # kfp warns that an image may lack what a step needs; in process it is the same installation
        warnings.filterwarnings("ignore", message="You may be attemping", category=RuntimeWarning)
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(root),
            enable_caching=True,
            cache_root=str(root / CACHE),
        )
        with redirect_stdout(console), redirect_stderr(console):
            try:
                outputs = pipeline(**arguments).outputs
            except RuntimeError as error:
                if console.progress.failure is None:
                    last = console.progress.started[-1] if console.progress.started else "the first step"
                    raise TumorflowError(
                        f"Every step ends with a result or a reason. Received: {last} died without one. "
                        f"The log is {log}; running again goes on where this run stopped."
                    ) from error
                return LocalRun({}, console.progress)
        paths = {name: getattr(value, "path", value) for name, value in outputs.items()}
        return LocalRun(paths, console.progress)


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
