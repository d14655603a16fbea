"""Steps in containers: the compiled pipeline with every command handed to a container engine.

kfp's own runner of containers has the engine remove each one as it ends, and takes one that is gone for one
that succeeded: with podman always, with Docker sometimes. Here kfp's runner of processes runs the pipeline
instead, and each process is the client of the engine, which ends with the container's own exit code. It needs
no daemon's socket, so that podman and Docker serve alike.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tumorflow.errors import UnavailableError, UsageError

ENGINES = ("docker", "podman")
PASSED_ON = ("AWS_", "MLFLOW_", "TUMORFLOW_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Beginnings of the names of the variables that a step may read; of the user's files it sees none."""
START_VARIABLE = "TUMORFLOW_CONTAINER_START"
"""Holds the engine's command line up to the image. In the definition it would be part of kfp's cache key."""
EXECUTOR = "kfp.dsl.executor_main"
"""What kfp's runner of processes looks for in a command, to know a Python component."""
KILLED = 137
LOST = 125
"""Of a container whose end nobody knows."""


@dataclass(frozen=True)
class Containers:
    """How the steps' containers are started."""

    engine: str
    """The engine's program."""
    read: tuple[Path, ...] = ()
    """Files and folders that steps may read, at the same place inside."""
    written: tuple[Path, ...] = ()
    """Folders that steps may write, at the same place inside."""
    scratch: Path = Path("/tmp")  # noqa: S108 - /tmp of the containers; whoever runs gives an own folder
    """Folder that is /tmp inside."""
    memory: str = ""
    """The most memory a container may have, as the engine takes it (`4g`); empty: all there is."""
    label: str = ""
    """Marks the containers of one runs folder."""

    def start_command(self) -> list[str]:
        """Returns the engine's command line up to the image."""
        mounts = [f"{path}:{path}:ro" for path in self.read] + [f"{path}:{path}" for path in self.written]
        # a rootless podman maps the caller to root inside, unless it is told to keep the user
        keep_user = ["--userns=keep-id"] if self.engine == "podman" and os.getuid() != 0 else []
        return [
            self.engine,
            "run",
            "--pull=never",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--security-opt=label=disable",  # SELinux would refuse folders of the user's
            "--network=host",  # MLflow and the object store are often on loopback
            f"--user={os.getuid()}:{os.getgid()}",
            *keep_user,
            *([f"--memory={self.memory}", f"--memory-swap={self.memory}"] if self.memory else []),
            f"--label=tumorflow={self.label}",
            "--env=HOME=/tmp",
            f"--volume={self.scratch}:/tmp",
            *(f"--volume={mount}" for mount in mounts),
        ]


def find_engine() -> str:
    """Returns the program of a container engine that answers.

    Raises:
        UnavailableError: there is none.
    """
    for engine in ENGINES:
        if shutil.which(engine) and _ask(engine, "version").returncode == 0:
            return engine
    raise UnavailableError(
        "Steps in containers need Docker or podman. Received: neither answers. "
        "Install or start one, or run the steps as processes: --runner process."
    )


def find_image(engine: str, image: str) -> str:
    """Returns the id of an image's content.

    Raises:
        UsageError: the engine does not have it.
    """
    asked = _ask(engine, "image", "inspect", "--format", "{{.Id}}", image)
    if asked.returncode != 0:
        raise UsageError(
            f"The steps' images are there before a run. Received: {engine} has no {image}. "
            "Build them: make images"
        )
    return asked.stdout.strip().removeprefix("sha256:")


def remove_left_containers(engine: str, label: str) -> None:
    """Removes the containers that a killed run left working, so that they write nothing behind the next."""
    found = _ask(engine, "ps", "--all", "--quiet", "--filter", f"label=tumorflow={label}").stdout.split()
    if found:
        _ask(engine, "rm", "--force", *found)


def contain(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the pipeline's definition with every executor's command handed to the engine.

    The engine's own command line is read from START_VARIABLE as a step starts.
    """
    executors = {
        name: {**executor, "container": _contain(executor["container"])}
        for name, executor in definition["deploymentSpec"]["executors"].items()
    }
    return {**definition, "deploymentSpec": {**definition["deploymentSpec"], "executors": executors}}


def _contain(container: Mapping[str, Any]) -> dict[str, Any]:
    handed = {"image": container["image"], "command": container["command"]}
    # in digits, for kfp replaces every `python3` in a command by this machine's own interpreter
    text = json.dumps(handed).encode().hex()
    return {**container, "command": ["python3", "-m", "tumorflow_pipelines.containers", text, EXECUTOR]}


def _ask(engine: str, *question: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - an engine of ENGINES, and no shell
        [engine, *question], capture_output=True, text=True, check=False
    )


def run_contained(text: str, arguments: Sequence[str]) -> int:
    """Returns the exit code of a step's container; a signal to this process ends the container, too.

    Args:
        text: what `contain` put into the command.
        arguments: what kfp appended to it.
    """
    handed = json.loads(bytes.fromhex(text))
    name = f"tumorflow-{uuid.uuid4().hex[:12]}"
    variables = [
        f"--env={key}" for key in sorted(os.environ) if key.startswith(PASSED_ON) and key != START_VARIABLE
    ]
    engine, *start = json.loads(os.environ[START_VARIABLE])

    def end(_number: int, _frame: FrameType | None) -> None:
        _ask(engine, "kill", name)

    signal.signal(signal.SIGTERM, end)
    started = [*start, *variables, f"--name={name}", handed["image"], *handed["command"], *arguments]
    code = subprocess.run(  # noqa: S603 - the command that `contain` wrote, and no shell
        [engine, *started], stdin=subprocess.DEVNULL, check=False
    ).returncode
    # a client of a remote engine may miss the end, and then ends with 0: what the engine keeps is what counts
    kept = _ask(engine, "wait", name).stdout.strip()
    _ask(engine, "rm", "--force", name)
    if code == 0:
        code = int(kept) if kept.isdigit() else LOST
    if code == KILLED:
        print("note: the container was killed, or ran out of memory", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(run_contained(sys.argv[1], sys.argv[3:]))
