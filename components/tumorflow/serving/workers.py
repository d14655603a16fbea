"""Who examines files: threads, or processes of their own."""

import multiprocessing
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from tumorflow.errors import SliceError
from tumorflow.ingestion.header import silence_reading
from tumorflow.serving.model import Model, Reference, load
from tumorflow.serving.prediction import Examined, Wanted, examine
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
        return ProcessPoolExecutor(self.count, mp_context=spawning, initializer=silence_reading)

    def examine(
        self, model: Model, file: Stored | Refused, wanted: Wanted, limits: Limits, deadline: float
    ) -> "Future[list[Examined | Refused]]":
        """Returns what will be found in a file."""
        if not self._processes:
            return self._pool.submit(examine, model, file, wanted, limits, deadline)
        pool = self._pool
        try:
            return pool.submit(examine_by, model.reference, file, wanted, limits, deadline)
        except BrokenProcessPool:
            if pool is self._pool:
                self._pool = self._make_pool()
            return self._pool.submit(examine_by, model.reference, file, wanted, limits, deadline)

    def prepare(self, model: Model) -> None:
        """Has the processes load a model, before requests wait for it."""
        if self._processes:
            for loading in [self._pool.submit(take, model.reference) for _ in range(self.count)]:
                loading.result()

    def close(self) -> None:
        """Ends the pool."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def take(reference: Reference) -> None:
    """Loads a model in this process, which keeps the last two."""
    if reference not in _models:
        _models[reference] = load(reference.file, name=reference.name, version=reference.version)
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
