"""Who examines files: threads, or processes of their own."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

from tumorflow.errors import SliceError
from tumorflow.ingestion.header import silence_reading
from tumorflow.serving.model import Model, Reference, load
from tumorflow.serving.prediction import Examined, Wanted, examine
from tumorflow.serving.problems import ProblemError
from tumorflow.serving.settings import Limits
from tumorflow.serving.uploads import Refused, Stored

KEPT_MODELS = 2
"""In a process: the champion, and the former one while requests end that began with it."""
_models: dict[Reference, Model] = {}


class Workers:
    """A pool that examines files.

    Threads share the service's memory. Processes do not share one interpreter's lock, and a decoder's crash
    ends one of them alone.
    """

    def __init__(self, count: int, *, processes: bool = False) -> None:
        self.count = count
        self._processes = processes
        self._pool = self._make_pool()

    def _make_pool(self) -> Executor:
        if not self._processes:
            return ThreadPoolExecutor(self.count, thread_name_prefix="examine")
        spawning = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.count, mp_context=spawning, initializer=begin)

    def examine(
        self, model: Model, file: Stored | Refused, wanted: Wanted, limits: Limits, deadline: float
    ) -> "Future[list[Examined | Refused]]":
        """Returns what will be found in a file."""
        if not self._processes:
            return self._pool.submit(examine, model, file, wanted, limits, deadline)
        return self._submit(examine_by, model.reference, file, wanted, limits, deadline)

    def _submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Returns what a process will make of it; a pool that a crash has broken is replaced."""
        pool = self._pool
        try:
            return pool.submit(work, *arguments)
        except BrokenProcessPool:
            if pool is self._pool:
                self._pool = self._make_pool()
                pool.shutdown(wait=False)
            return self._pool.submit(work, *arguments)

    def prepare(self, model: Model) -> None:
        """Has the processes load a model, before requests wait for it."""
        if not self._processes:
            return
        for loading in [self._submit(take, model.reference) for _ in range(self.count)]:
            with suppress(BrokenProcessPool):  # whoever takes the place of one that crashed loads it then
                loading.result()

    def close(self) -> None:
        """Ends the pool."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def begin() -> None:
    """Prepares a worker process: quiet, ended by the service alone, and never longer alive than it."""
    silence_reading()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: what was begun is finished
    if (service := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(service,), daemon=True).start()


def _end_with(service: Any) -> None:
    service.join()
    os._exit(1)


def take(reference: Reference) -> None:
    """Loads a model in this process, which keeps the last two.

    Raises:
        ProblemError: another file has taken the place of the one that is answered by.
    """
    if reference not in _models:
        model = load(reference.file, name=reference.name, version=reference.version)
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
