import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from tumorflow.serving import workers
from tumorflow.serving.model import load
from tumorflow.serving.prediction import too_long
from tumorflow.serving.problems import ProblemError
from tumorflow.serving.settings import Limits
from tumorflow.serving.uploads import Stored
from tumorflow.serving.workers import DiedError, WorkerProcess, Workers

LONG_S = 600.0


@pytest.fixture
def process():
    started = WorkerProcess()
    yield started
    started.close()


@pytest.fixture
def call(process):
    def within(seconds, function, *given):
        return process.call(function, given, time.monotonic() + seconds)

    return within


def test_a_problem_crosses_to_another_process_whole():
    problem = too_long(Limits()).with_refused([{"file": 1}])
    copied = pickle.loads(pickle.dumps(problem))
    assert (copied.status, copied.rule, copied.detail) == (problem.status, problem.rule, problem.detail)
    assert (copied.retry_after_s, copied.more) == (5, {"refused": [{"file": 1}]})


def test_another_file_in_a_models_place_does_not_answer_for_it(write_model, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_models", {})
    reference = load(write_model(tmp_path / "model.tflite")).reference
    write_model(tmp_path / "model.tflite", model_hash="b2" * 32)
    with pytest.raises(ProblemError, match="stays as it is"):
        workers.take(reference)


def test_a_process_keeps_the_last_two_models(write_model, tmp_path, monkeypatch):
    kept = {}
    monkeypatch.setattr(workers, "_models", kept)
    references = [load(write_model(tmp_path / f"{number}.tflite")).reference for number in range(3)]
    for reference in references:
        workers.take(reference)
    assert list(kept) == references[1:]


def test_a_process_that_dies_is_replaced(call):
    before = call(60, os.getpid)
    with pytest.raises(DiedError):
        call(60, os._exit, 1)
    assert call(60, os.getpid) not in (before, os.getpid())


def test_a_process_that_never_ends_its_work_is_replaced_at_the_deadline(call):
    before = call(60, os.getpid)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        call(0.2, time.sleep, LONG_S)
    assert time.monotonic() - began < 60
    assert call(60, os.getpid) not in (before, os.getpid())


def test_what_fails_in_a_process_is_told_without_its_text(call):
    with pytest.raises(RuntimeError, match=r"^ValueError$"):
        call(60, int, "Doe^Jane")
    assert call(60, int, "7") == 7


class Deadly:
    """Stands for a process that each file ends, or that never ends."""

    def __init__(self, error):
        self.error, self.calls = error, 0

    def call(self, *_):
        self.calls += 1
        raise self.error

    def close(self):
        pass


@pytest.fixture
def examine(write_model, tmp_path, monkeypatch):
    def with_process(process, seconds=60):
        monkeypatch.setattr(workers, "WorkerProcess", lambda: process)
        pool = Workers(1, processes=True)
        model, file = load(write_model(tmp_path / "model.tflite")), Stored(3, tmp_path / "3", 1, False)
        work = partial(pool.examine, model, file, None, Limits(answer_s=5))
        try:
            return work(time.monotonic() + seconds).result(timeout=60)
        finally:
            pool.close()

    return with_process


def test_a_file_that_ends_its_process_twice_is_refused(examine):
    process = Deadly(DiedError())
    assert [(each.file, each.rule) for each in examine(process)] == [(3, "undecodable_pixels")]
    assert process.calls == 2


def test_a_file_that_never_ends_is_told_as_too_long(examine):
    with pytest.raises(ProblemError, match="at most 5 s"):
        examine(Deadly(TimeoutError()))


def test_a_file_whose_time_is_over_costs_no_process(examine):
    process = Deadly(DiedError())
    with pytest.raises(ProblemError, match="at most 5 s"):
        examine(process, seconds=-1)
    assert process.calls == 0


def test_ctrl_c_reaches_no_process_while_it_starts():
    """Not the first one either, with which multiprocessing starts another of its own."""
    script = (
        "from pathlib import Path; from tumorflow.serving.workers import WorkerProcess\n"
        "if __name__ == '__main__':\n"
        "    for process in (WorkerProcess(), WorkerProcess()):\n"
        "        status = Path(f'/proc/{process._process.pid}/status').read_text()\n"
        "        print(status.split('SigBlk:')[1].split()[0])\n"
        "        process.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    blocked = [bool(int(mask, 16) & 1 << (signal.SIGINT - 1)) for mask in done.stdout.split()]
    assert blocked == [True, True]
