"""Who examines files: threads, or processes of their own."""

import gc
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from tumorflow.errors import SliceError, SourceError, TumorflowError
from tumorflow.ingestion.header import silence_reading
from tumorflow.serving.model import Model, Reference, load
from tumorflow.serving.prediction import Examined, Wanted, examine, too_long
from tumorflow.serving.problems import ProblemError
from tumorflow.serving.settings import Limits
from tumorflow.serving.uploads import Refused, Stored

KEPT_MODELS = 2
"""In a process: the champion, and the former one while requests end that began with it."""
OBJECTS_A_ROUND = 50_000
LOADING_S = 120.0
GRACE_S = 2.0
"""Beyond a deadline, at which a process stops by itself between two slices."""
TRIES = 2
"""For a file whose process died: something else may have been why."""
_models: dict[Reference, Model] = {}


class DiedError(Exception):
    """A worker process ended before it had answered."""


class Workers:
    """A pool that examines files.

    Threads share the service's memory. Processes do not share one interpreter's lock, and a decoder that
    crashes, or never ends, costs its own file's answer alone.
    """

    def __init__(self, count: int, *, processes: bool = False, batch: int = 1) -> None:
        """Begins with nothing to do.

        Args:
            count: how many files are read at a time.
            processes: a process for each.
            batch: for each file that is read, how many may wait for their answers.
        """
        self.count = count
        self._reading = threading.Semaphore(count)
        self._threads = ThreadPoolExecutor(count * batch, thread_name_prefix="examine")
        self._processes = [WorkerProcess() for _ in range(count)] if processes else []
        self._idle: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)

    def examine(
        self, model: Model, file: Stored | Refused, wanted: Wanted, limits: Limits, deadline: float
    ) -> "Future[list[Examined | Refused]]":
        """Returns what will be found in a file."""
        if not self._processes:
            return self._threads.submit(examine, model, file, wanted, limits, deadline, self._reading)
        return self._threads.submit(self._examine_apart, model.reference, file, wanted, limits, deadline)

    def _examine_apart(
        self, reference: Reference, file: Stored | Refused, wanted: Wanted, limits: Limits, deadline: float
    ) -> list[Examined | Refused]:
        process = self._idle.get()
        try:
            for _ in range(TRIES):
                if time.monotonic() > deadline:
                    raise too_long(limits)
                with suppress(DiedError):
                    given = (reference, file, wanted, limits, deadline)
                    return list(process.call(examine_by, given, deadline + GRACE_S))
        except TimeoutError:
            raise too_long(limits) from None
        finally:
            self._idle.put(process)
        return [crashed(file.number if isinstance(file, Stored) else file.file)]

    def prepare(self, model: Model) -> None:
        """Has the processes load a model, one after the other, before requests wait for it."""
        for process in self._processes:
            with suppress(DiedError, TimeoutError):  # whoever takes its place loads it then
                process.call(take, (model.reference,), time.monotonic() + LOADING_S)

    def close(self) -> None:
        """Ends the pool."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.close()


class WorkerProcess:
    """A process that does one thing at a time, and is replaced when it dies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._connection, theirs = spawning.Pipe()
        process = spawning.Process(target=work, args=(theirs,), daemon=True)
        # Ctrl-C reaches the whole group, also while a process has not yet said that it ignores it; what
        # multiprocessing starts beside the first one would let it through again
        resource_tracker.ensure_running()
        former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
        theirs.close()
        self._process = process

    def _replace(self) -> None:
        self._process.kill()
        self.close()
        self._start()

    def call(self, function: Callable[..., Any], given: tuple[Any, ...], deadline: float) -> Any:
        """Returns what a function of this package makes of some arguments.

        Raises:
            DiedError: the process ended meanwhile.
            TimeoutError: the deadline, by `time.monotonic`, passed; the process was ended.
            Exception: what the function raised.
        """
        with self._lock:
            if time.monotonic() > deadline:  # while another one was answered
                raise TimeoutError
            try:
                self._connection.send((function, given))
                in_time = self._connection.poll(max(0.0, deadline - time.monotonic()))
                answer, error = self._connection.recv() if in_time else (None, None)
            except (EOFError, OSError) as died:
                self._replace()
                raise DiedError from died
            if not in_time:
                self._replace()
                raise TimeoutError
        if error is not None:
            raise error
        return answer

    def close(self) -> None:
        """Ends the process, which sees that nobody asks any more."""
        self._connection.close()
        self._process.join()


def work(asking: Connection) -> None:
    """Answers until nobody asks any more: quiet, ended by the service alone, never longer alive than it."""
    silence_reading()
    settle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: what was begun is finished
    if (service := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(service,), daemon=True).start()
    with suppress(EOFError, ConnectionError):
        while True:
            function, given = asking.recv()
            asking.send(attempt(function, given))


def settle() -> None:
    """Leaves what is loaded for good out of the collector's rounds: they cost a quarter of the tail."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_A_ROUND)


def attempt(function: Callable[..., Any], given: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """Returns what a function makes of some arguments, or why it fails, as another process can take it."""
    try:
        return function(*given), None
    except (TumorflowError, OSError) as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - its text may hold data, and may not cross
        return None, RuntimeError(type(error).__name__)


def _end_with(service: Any) -> None:
    service.join()
    os._exit(1)


def take(reference: Reference) -> None:
    """Loads a model in this process, which keeps the last two.

    Raises:
        ProblemError: the file is gone, or another one has taken its place.
    """
    if reference not in _models:
        try:
            model = load(reference.file, name=reference.name, version=reference.version)
        except (SourceError, OSError) as error:
            raise ProblemError(
                503,
                "model_changed",
                "A model's file stays where it is. Received: none that can be loaded. Ask again.",
                retry_after_s=5,
            ) from error
        if model.reference != reference:
            raise ProblemError(
                503, "model_changed", "A model's file stays as it is. Received: another one in its place."
            )
        _models[reference] = model
        for former in list(_models)[:-KEPT_MODELS]:
            del _models[former]


def examine_by(
    reference: Reference, file: Stored | Refused, wanted: Wanted, limits: Limits, deadline: float
) -> list[Examined | Refused]:
    """Returns what `examine` returns, by a model that this process loads and keeps."""
    take(reference)
    return examine(_models[reference], file, wanted, limits, deadline)


def crashed(file: int) -> Refused:
    """Returns the refusal of a file that ended the process that read it."""
    return Refused.of(
        file,
        SliceError(
            "undecodable_pixels", "The file cannot be decoded.", "Export it again, uncompressed if possible."
        ),
    )
