"""How long one slice takes with LiteRT, and how much memory: `python -m tumorflow.export.speed FILE THREADS`.

A process of its own, as memory that was taken once is not given back.
"""

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tumorflow.errors import UnavailableError
from tumorflow.litert import Classifier

RUNS = 30
WARM_UP_RUNS = 5


@dataclass(frozen=True)
class Speed:
    """Of one slice after the other."""

    median_ms: float
    p90_ms: float
    memory_mib: float
    """That loading the model and answering added to the process."""


def measure(file: Path, threads: int) -> Speed:
    """Returns the speed of a TFLite file on this machine.

    Raises:
        UnavailableError: the measuring process failed.
    """
    command = [sys.executable, "-m", "tumorflow.export.speed", str(file), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if done.returncode:
        raise UnavailableError(
            f"A TFLite file's speed can be measured. Received: exit code {done.returncode} for {file.name}. "
            "Is there memory left?"
        )
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def read_memory_kib(field: str) -> int:
    """Returns a field of this process' memory: `VmRSS` (now) or `VmHWM` (at most).

    Elsewhere than on Linux it is the most so far in both cases, which is what the system tells.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 2**10 if sys.platform == "darwin" else peak
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))


def measure_here(file: Path, threads: int) -> Speed:
    """Returns the speed of a TFLite file, measured in this process."""
    import ai_edge_litert.interpreter  # noqa: F401 - the runtime's own memory is no model's

    before = read_memory_kib("VmRSS")
    classifier = Classifier(file.read_bytes(), threads)
    pixels = np.random.default_rng(0).integers(0, 256, classifier.input_shape).astype(np.uint8)
    seconds = []
    for _ in range(WARM_UP_RUNS + RUNS):
        start = time.perf_counter()
        classifier.answer(pixels)
        seconds.append(time.perf_counter() - start)
    median, slow = np.quantile(seconds[WARM_UP_RUNS:], (0.5, 0.9)) * 1000
    return Speed(round(median, 2), round(slow, 2), round((read_memory_kib("VmHWM") - before) / 1024, 1))


if __name__ == "__main__":
    print(json.dumps(asdict(measure_here(Path(sys.argv[1]), int(sys.argv[2])))))
