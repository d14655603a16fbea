"""Kills steps in the middle of runs, and counts what was lost: nothing should be. Servers: outages.py.

    python tests/bench/faults.py [--containers] [--runs 20] [--seed 1]

Each time a fresh folder, one step killed by SIGKILL at a random moment of its time (the run dies with it or
tells that it died), then the run again. It must end with the results of an undisturbed run, leave nothing
half-written, register one version with all its files, and leave no run in MLflow open or doubled.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from mlflow import MlflowClient

TUMORFLOW = str(Path(sys.executable).parent / "tumorflow")
STEPS = ("ingest", "validate", "preprocess", "train", "evaluate", "export")
COMPARED = ("ingest", "validate", "preprocess", "train", "evaluate")
"""The release names the version's run in MLflow, which is another each time."""
SOUND = "same results, nothing half-written, one version, no run open or doubled"
QUICK = {
    "preprocess.image_size_px": "32",
    "train.weights": "none",
    "train.epochs": "2",
    "evaluate.bootstrap_resamples": "100",
    "evaluate.gradcam_slices": "1",
    "evaluate.min_macro_f1": "0",
    "evaluate.min_macro_auc": "0",
    "evaluate.min_class_recall": "0",
    "evaluate.max_calibration_error": "1",
    "evaluate.require_better_than_chance": "false",
    "evaluate.min_test_groups_per_class": "1",
}


@dataclass(frozen=True)
class Setup:
    """How runs are started."""

    source: str
    options: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def registry(self, place: Path) -> str:
        """The address of the MLflow that a run in `place` writes to."""
        return self.variables.get("MLFLOW_TRACKING_URI", f"sqlite:///{place}/runs/mlflow/mlflow.db")


@dataclass(frozen=True)
class Result:
    """What a run left that another one must leave, too."""

    hashes: Mapping[str, str]
    """The content hash of each artifact that is compared."""
    version_files: frozenset[str]
    """Files of the version that it registered."""


def write_source(folder: Path) -> None:
    """Writes three classes of 12 unlike pictures each."""
    generator = np.random.default_rng(5)
    for brightness, label in ((40, "normal"), (110, "benign"), (180, "malignant")):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            coarse = generator.integers(0, 70, (9, 9)).astype(np.uint8)
            picture = cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC) + np.uint8(brightness)
            cv2.imwrite(str(folder / label / f"{number}.png"), picture)


def command(setup: Setup) -> list[str]:
    """Returns the command line of a quick run."""
    settings = [part for key, value in QUICK.items() for part in ("--set", f"{key}={value}")]
    return [TUMORFLOW, "run", "--source", setup.source, *settings, *setup.options]


def environment(setup: Setup) -> dict[str, str]:
    """Returns the variables of a run: a key of its own, and no MLflow but the folder's or the setup's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    return {**kept, "TUMORFLOW_PSEUDONYM_KEY": "3c7a9e51f08b42d6a1c4e7f39b85d260", **setup.variables}


def run(place: Path, setup: Setup) -> subprocess.CompletedProcess[str]:
    """Returns the finished run."""
    return subprocess.run(
        command(setup), cwd=place, env=environment(setup), capture_output=True, text=True, check=False
    )


def summary(place: Path) -> dict[str, Any]:
    """Returns the last summary."""
    content: dict[str, Any] = json.loads((place / "runs" / "latest" / "summary.json").read_text())
    return content


def seconds(place: Path) -> dict[str, float]:
    """Returns how long each step took."""
    return {step["name"]: step["seconds"] for step in summary(place)["steps"]}


def result(place: Path, registry: str) -> Result:
    """Returns what the last run in `place` left."""
    from mlflow import MlflowClient

    told = summary(place)
    hashes = {step["name"]: step["content_hash"] for step in told["steps"] if step["name"] in COMPARED}
    return Result(hashes, version_files(MlflowClient(registry), told["model"]))


def version_files(client: "MlflowClient", model: Mapping[str, str]) -> frozenset[str]:
    """Returns the paths of a version's files and of its evidence."""
    version = client.get_model_version(model["name"], model["version"])
    model_id = client.get_run(model["run_id"]).outputs.model_outputs[-1].model_id
    return frozenset(
        [
            *walk(partial(client.list_logged_model_artifacts, model_id), None),
            *walk(partial(client.list_artifacts, version.run_id), "evidence"),
        ]
    )


def walk(listed: Callable[[str | None], Sequence[Any]], folder: str | None) -> list[str]:
    """Returns the paths of all files below a folder of artifacts."""
    return [
        path
        for entry in listed(folder)
        for path in (walk(listed, entry.path) if entry.is_dir else [str(entry.path)])
    ]


def kill_step(place: Path) -> None:
    """Kills the step that is at work below `place`, in its container or process."""
    for engine in ("docker", "podman"):
        found = (
            subprocess.run(
                [engine, "ps", "--quiet", "--filter", f"label=tumorflow={place}/runs"],
                capture_output=True,
                text=True,
                check=False,
            )
            if _has(engine)
            else None
        )
        if found and found.stdout.split():
            subprocess.run([engine, "kill", *found.stdout.split()], capture_output=True, check=False)
            return
    listed = subprocess.run(
        ["pgrep", "-f", f"executor_main.*{place}/runs"], capture_output=True, text=True, check=False
    )
    for process in listed.stdout.split():
        try:
            os.kill(int(process), signal.SIGKILL)
        except ProcessLookupError:
            continue


def _has(program: str) -> bool:
    return subprocess.run(["which", program], capture_output=True, check=False).returncode == 0


def disturb(
    place: Path, setup: Setup, step: str, after_s: float, strike: Callable[[], None]
) -> subprocess.CompletedProcess[str]:
    """Returns a finished run, struck so many seconds after a step of it began."""
    with subprocess.Popen(
        command(setup),
        cwd=place,
        env=environment(setup),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as victim:
        said = []
        for line in victim.stdout or ():
            said.append(line)
            if line.startswith(f"{step} …"):
                break
        time.sleep(after_s)
        strike()
        said.extend(victim.stdout or ())
    return subprocess.CompletedProcess(victim.args, victim.returncode, "".join(said))


def check(place: Path, expected: Result, registry: str) -> list[str]:
    """Returns what is wrong with a folder and its MLflow after a run that ended."""
    from mlflow import MlflowClient

    faults = []
    found = result(place, registry)
    if found.hashes != expected.hashes:
        differing = [name for name, value in found.hashes.items() if value != expected.hashes[name]]
        faults.append(f"other results of {', '.join(differing)}")
    if found.version_files != expected.version_files:
        faults.append(f"version of other files: {sorted(found.version_files ^ expected.version_files)}")
    if list((place / "runs").rglob("*.partial")):
        faults.append("something half-written")
    client = MlflowClient(registry)
    if (versions := len(client.search_model_versions())) != 1:
        faults.append(f"{versions} versions")
    return [*faults, *check_runs(client)]


def check_runs(client: "MlflowClient") -> list[str]:
    """Returns which runs in MLflow are open though nothing works, or twice there for one step of one job."""
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    names = Counter((run.data.tags.get("tumorflow.job"), run.info.run_name) for run in runs)
    left = [f"{run.info.run_name} left open" for run in runs if run.info.status == "RUNNING"]
    return [*left, *(f"{name} {times} times" for (_job, name), times in names.items() if times > 1)]


def main() -> int:
    """Returns 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description="kill steps at random and count what was lost")
    parser.add_argument("--containers", action="store_true", help="steps in containers")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    moments = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="tumorflow-faults-") as folder:
        source = Path(folder) / "source"
        write_source(source)
        setup = Setup(str(source), ["--runner", "docker"] if given.containers else [])
        reference = Path(folder) / "reference"
        reference.mkdir()
        done = run(reference, setup)
        if done.returncode != 0:
            print(done.stdout + done.stderr)
            return 1
        expected, durations = result(reference, setup.registry(reference)), seconds(reference)
        lost = died = 0
        for number in range(given.runs):
            place = Path(folder) / f"run-{number:02}"
            place.mkdir()
            step = STEPS[number % len(STEPS)]
            after_s = moments.uniform(0, durations[step] + 1)
            code = disturb(place, setup, step, after_s, partial(kill_step, place)).returncode
            again = run(place, setup)
            faults = [f"exit code {again.returncode}"]
            if again.returncode == 0:
                faults = check(place, expected, setup.registry(place))
            died += code != 0
            lost += bool(faults)
            told = "; ".join(faults) or SOUND
            print(f"{step} killed after {after_s:4.1f} s: exit code {code}, then {told}", flush=True)
    where = "containers" if given.containers else "process"
    print(f"{where}: {given.runs} kills, {died} of them in time to end the run; {lost} runs lost something")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
