"""Kills steps and stops servers in the middle of runs, and counts what was lost: nothing should be.

    python tests/bench/faults.py [--containers] [--runs 12] [--seed 1]

Each time a fresh folder, one step killed by SIGKILL at a random moment of its time (the run dies with it or
tells that it died), then the run again. It must end with the results of an undisturbed run, leave nothing
half-written, and register one version.
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
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

TUMORFLOW = str(Path(sys.executable).parent / "tumorflow")
STEPS = ("ingest", "validate", "preprocess", "train", "evaluate", "export")
COMPARED = ("ingest", "validate", "preprocess", "train", "evaluate")
"""The release names the version's run in MLflow, which is another each time."""
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


def write_source(folder: Path) -> None:
    """Writes three classes of 12 unlike pictures each."""
    generator = np.random.default_rng(5)
    for brightness, label in ((40, "normal"), (110, "benign"), (180, "malignant")):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            coarse = generator.integers(0, 70, (9, 9)).astype(np.uint8)
            picture = cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC) + np.uint8(brightness)
            cv2.imwrite(str(folder / label / f"{number}.png"), picture)


def command(source: Path, options: Sequence[str]) -> list[str]:
    """Returns the command line of a quick run."""
    settings = [part for key, value in QUICK.items() for part in ("--set", f"{key}={value}")]
    return [TUMORFLOW, "run", "--source", str(source), *settings, *options]


def environment() -> dict[str, str]:
    """Returns the variables of a run: a key of its own, and no MLflow but the folder's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    return {**kept, "TUMORFLOW_PSEUDONYM_KEY": "3c7a9e51f08b42d6a1c4e7f39b85d260"}


def run(place: Path, source: Path, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Returns the finished run."""
    return subprocess.run(
        command(source, options), cwd=place, env=environment(), capture_output=True, text=True, check=False
    )


def summary(place: Path) -> dict:
    """Returns the last summary."""
    return json.loads((place / "runs" / "latest" / "summary.json").read_text())


def hashes(place: Path) -> dict[str, str]:
    """Returns the content hash of each artifact that is compared."""
    return {
        step["name"]: step["content_hash"] for step in summary(place)["steps"] if step["name"] in COMPARED
    }


def seconds(place: Path) -> dict[str, float]:
    """Returns how long each step took."""
    return {step["name"]: step["seconds"] for step in summary(place)["steps"]}


def count_versions(place: Path) -> int:
    """Returns how many versions the folder's registry has."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place}/runs/mlflow/mlflow.db")
    return len(client.search_model_versions("name = 'tumorflow-ct'"))


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


def disturb(place: Path, source: Path, step: str, after_s: float, options: Sequence[str]) -> int:
    """Returns the exit code of a run whose step `step` was killed so many seconds after it began."""
    with subprocess.Popen(
        command(source, options),
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as victim:
        for line in victim.stdout or ():
            if line.startswith(f"{step} …"):
                break
        time.sleep(after_s)
        kill_step(place)
        for _ in victim.stdout or ():
            pass
    return victim.returncode


def check(place: Path, expected: Mapping[str, str]) -> list[str]:
    """Returns what is wrong with a folder after the run that followed a kill."""
    faults = []
    if hashes(place) != dict(expected):
        differing = [name for name, value in hashes(place).items() if value != expected[name]]
        faults.append(f"other results of {', '.join(differing)}")
    if list((place / "runs").rglob("*.partial")):
        faults.append("something half-written")
    if (versions := count_versions(place)) != 1:
        faults.append(f"{versions} versions")
    return faults


def main() -> int:
    """Returns 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description="kill steps at random and count what was lost")
    parser.add_argument("--containers", action="store_true", help="steps in containers")
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    options = ["--runner", "docker"] if given.containers else []
    moments = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="tumorflow-faults-") as folder:
        source = Path(folder) / "source"
        write_source(source)
        reference = Path(folder) / "reference"
        reference.mkdir()
        done = run(reference, source, options)
        if done.returncode != 0:
            print(done.stdout + done.stderr)
            return 1
        expected, durations = hashes(reference), seconds(reference)
        lost = died = 0
        for number in range(given.runs):
            place = Path(folder) / f"run-{number:02}"
            place.mkdir()
            step = STEPS[number % len(STEPS)]
            after_s = moments.uniform(0, durations[step] + 1)
            code = disturb(place, source, step, after_s, options)
            again = run(place, source, options)
            faults = check(place, expected) if again.returncode == 0 else [f"exit code {again.returncode}"]
            died += code != 0
            lost += bool(faults)
            told = "; ".join(faults) or "same results, nothing half-written, one version"
            print(f"{step} killed after {after_s:4.1f} s: exit code {code}, then {told}", flush=True)
    where = "containers" if given.containers else "process"
    print(f"{where}: {given.runs} kills, {died} of them in time to end the run; {lost} runs lost something")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
