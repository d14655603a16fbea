"""From a request to its answer: the form, the files, the workers, and who may wait how long."""

import asyncio
import threading
import time
import zipfile
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from tumorflow.ingestion.header import malformed
from tumorflow.serving.answers import Prediction
from tumorflow.serving.champions import Champions
from tumorflow.serving.dicom_results import build_results
from tumorflow.serving.drift import DriftLog
from tumorflow.serving.measures import Measures
from tumorflow.serving.model import Model
from tumorflow.serving.pacs import Archive
from tumorflow.serving.prediction import Examined, Wanted, conclude, too_long, too_many_slices
from tumorflow.serving.problems import ProblemError
from tumorflow.serving.settings import Limits
from tumorflow.serving.uploads import Refused, Stored, refuse_more_files, store
from tumorflow.serving.workers import Workers

FILE_FIELDS = ("file", "files")
GRACE_S = 2.0
"""Beyond an answer's longest time, for the slices at hand."""
BROKEN = "The body is a multipart form. Received: one that is cut off or malformed."


class Service:
    """The routes' common state."""

    def __init__(
        self, champions: Champions, workers: Workers, limits: Limits, drift: DriftLog, scratch: Path
    ) -> None:
        self.champions = champions
        self.workers = workers
        self.limits = limits
        self.drift = drift
        self.scratch = scratch
        self.measures = Measures()
        self.archive: Archive | None = None
        self.requests = 0
        self.ending: set[asyncio.Task[Any]] = set()
        """Work that nobody waits for any more."""
        self.files = ThreadPoolExecutor(workers.count, thread_name_prefix="files")
        self.results = ThreadPoolExecutor(workers.count, thread_name_prefix="results")
        # an archive that does not answer holds these, and nothing that others need
        self.archiving = ThreadPoolExecutor(workers.count, thread_name_prefix="archiving")
        self.pushes = 0

    @property
    def model(self) -> Model:
        """The model in use.

        Raises:
            ProblemError: there is none.
        """
        if self.champions.current is None:
            raise ProblemError(
                503, "no_champion", "The registry has no champion: a reviewer approves one.", retry_after_s=30
            )
        return self.champions.current

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds one of the places of the requests that are worked on at a time.

        Raises:
            ProblemError: all are taken.
        """
        if self.requests >= self.limits.requests:
            raise ProblemError(
                429,
                "busy",
                f"{self.limits.requests} requests are taken at a time. Received: one more. Send it again.",
                retry_after_s=1,
            )
        self.requests += 1
        self.measures.working.inc()
        try:
            yield
        finally:
            self.requests -= 1
            self.measures.working.dec()

    async def predict(self, request: Request, wanted: Wanted) -> tuple[Prediction, list[Examined | Refused]]:
        """Returns the answer to a request, and what it was made of.

        Raises:
            ProblemError: it has none.
        """
        async with self._form(request) as form:
            model = self.model
            found = await self._wait(self._examine(model, find_bodies(form), wanted), request)
        prediction = conclude(model, found, wanted, self.limits, request.state.request_id)
        self.measures.count(prediction)
        request.state.log = {
            "slices": len(prediction.slices),
            "refused": len(prediction.refused),
            "model": prediction.model.model_hash[:12],
        }
        try:
            self.drift.write(model.about, found)
        except OSError as error:  # the answer is worth more
            request.state.log["drift_log"] = f"not written: {error.strerror or type(error).__name__}"
        return prediction, found

    async def push(self, archive: Archive, objects: Sequence[bytes]) -> None:
        """Sends DICOM objects to an archive.

        Raises:
            ProblemError: it did not take them, or is still busy with others.
        """
        if self.pushes >= self.workers.count:
            raise ProblemError(
                503,
                "archive_busy",
                f"{self.workers.count} results are sent at a time. Received: one more. Ask again.",
                retry_after_s=5,
            )
        self.pushes += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self.archiving, archive.store, objects)
        finally:
            self.pushes -= 1

    async def report(self, request: Request) -> tuple[Prediction, list[bytes]]:
        """Returns the answer to a request, and the same as DICOM objects.

        Raises:
            ProblemError: it has none, or its files are no DICOM.
        """
        wanted = Wanted(overlays=True, pictures=True, references=True)
        prediction, found = await self.predict(request, wanted)
        references = [each.reference for each in found if isinstance(each, Examined)]
        known = [reference for reference in references if reference is not None]
        if len(known) < len(references):
            raise ProblemError(
                422, "no_dicom", "Results in DICOM's form belong to DICOM files. Received: pictures."
            )
        loop = asyncio.get_running_loop()
        try:
            objects = await loop.run_in_executor(self.results, build_results, prediction, known)
        except malformed() as error:
            raise ProblemError(
                422,
                "unreportable",
                "Results repeat the study's elements. Received: elements that DICOM does not allow. Mend the "
                "files' headers, or ask /predict.",
            ) from error
        return prediction, objects

    @asynccontextmanager
    async def _form(self, request: Request) -> AsyncIterator[FormData]:
        """Yields a request's form, whose files are closed then."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data":
            raise ProblemError(
                415, "not_a_form", "Files are sent as multipart/form-data. Received: another content type."
            )
        parser = MultiPartParser(
            request.headers,
            request.stream(),
            max_files=self.limits.files,
            max_fields=16,
            max_part_size=2**16,
        )
        try:
            yield await _parse(parser, self.limits)
        finally:
            # also those whose end did not come, which are in no form
            for file in parser._files_to_close_on_error:
                file.close()

    async def _examine(
        self, model: Model, bodies: list[BinaryIO], wanted: Wanted
    ) -> list[Examined | Refused]:
        """Returns what was found in files; no more are begun at a time than there are workers.

        When it ends, also by being cancelled, nobody works on a file any more, and none is left.
        """
        deadline = time.monotonic() + self.limits.answer_s
        found: list[Examined | Refused] = []
        opinions = 0
        begun: deque[tuple[Stored | Refused, asyncio.Future[list[Examined | Refused]]]] = deque()
        files: deque[Stored | Refused] = deque()
        unwanted = threading.Event()
        storing = asyncio.get_running_loop().run_in_executor(self.files, self._store, bodies, files, unwanted)
        try:
            await asyncio.shield(storing)
            while files or begun:
                while files and len(begun) <= self.workers.count:
                    file = files.popleft()
                    if opinions >= self.limits.pictured_slices:
                        wanted = replace(wanted, overlays=False, pictures=False)
                    work = self.workers.examine(model, file, wanted, self.limits, deadline)
                    begun.append((file, asyncio.wrap_future(work)))
                file, examining = begun[0]
                try:
                    answers = await asyncio.shield(examining)
                except OSError as error:  # of the system, not of the file
                    raise no_room() from error
                found += answers
                opinions += sum(isinstance(each, Examined) for each in answers)
                begun.popleft()
                remove(file)
                if len(found) > self.limits.slices:
                    raise too_many_slices(self.limits)
        finally:
            unwanted.set()
            for file, _ in begun:
                remove(file)  # by which a worker sees that nobody waits any more
            await asyncio.gather(storing, *(examining for _, examining in begun), return_exceptions=True)
            for file in files:
                remove(file)
        return found

    def _store(
        self, bodies: Sequence[BinaryIO], files: deque[Stored | Refused], unwanted: threading.Event
    ) -> None:
        """Appends each file of a request to `files` until it is not wanted any more."""
        try:
            for file in store(bodies, self.scratch, self.limits):
                files.append(file)
                if unwanted.is_set():
                    return
        except OSError as error:
            raise no_room() from error

    async def _wait(
        self, examining: Coroutine[Any, Any, list[Examined | Refused]], request: Request
    ) -> list[Examined | Refused]:
        work = asyncio.ensure_future(examining)
        gone = asyncio.ensure_future(_wait_until_gone(request))
        first: set[asyncio.Future[Any]] = {work, gone}
        await asyncio.wait(first, timeout=self.limits.answer_s, return_when=asyncio.FIRST_COMPLETED)
        left = gone.done()
        gone.cancel()
        if not work.done():
            work.cancel()  # what was begun is waited for, but not for a decoder that may never end
            self.ending.add(work)
            work.add_done_callback(self._forget)
            await asyncio.wait({work}, timeout=GRACE_S + (self.limits.answer_s if left else 0))
            if not work.done() or work.cancelled() or work.exception() is not None:
                raise describe_gone() if left else too_long(self.limits)
        return work.result()

    def _forget(self, work: asyncio.Task[Any]) -> None:
        self.ending.discard(work)
        if not work.cancelled():
            work.exception()  # was told, or is nobody's any more


async def _parse(parser: MultiPartParser, limits: Limits) -> FormData:
    try:
        return await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise refuse_more_files(limits) from error
        raise ProblemError(400, "broken_body", BROKEN) from error
    except (FormParserError, KeyError, ValueError) as error:
        raise ProblemError(400, "broken_body", BROKEN) from error
    except OSError as error:
        raise no_room() from error


def no_room() -> ProblemError:
    """Returns the problem of a service that cannot keep files until their turn."""
    return ProblemError(
        503,
        "no_room",
        "Files are kept until they are answered. Received: no room, or too many at a time. Ask again.",
        retry_after_s=30,
    )


def pack_files(objects: Sequence[bytes]) -> bytes:
    """Returns DICOM files as a zip archive."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for number, content in enumerate(objects, start=1):
            archive.writestr(f"{number:04d}.dcm", content)
    return packed.getvalue()


def describe_gone() -> ProblemError:
    """Returns the problem of a client that did not wait for its answer."""
    return ProblemError(400, "gone", "A client waits for its answer. Received: one that left before.")


def find_bodies(form: FormData) -> list[BinaryIO]:
    """Returns the files of a form, in their order.

    Raises:
        ProblemError: it has none.
    """
    bodies = [
        value.file for name, value in form.multi_items() if name in FILE_FIELDS and not isinstance(value, str)
    ]
    if not bodies:
        raise ProblemError(
            422, "no_file", "A request has files in its fields `files` or `file`. Received: none."
        )
    return bodies


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def remove(file: Stored | Refused) -> None:
    """Removes what was kept of a file: not before its answer is here, as a worker's may be lost."""
    if isinstance(file, Stored):
        file.path.unlink(missing_ok=True)
