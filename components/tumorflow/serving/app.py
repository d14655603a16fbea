"""The routes. `GET /openapi.json` describes them."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from tumorflow import __version__
from tumorflow.serving.answers import DISCLAIMER, ModelFacts, Prediction, Problem
from tumorflow.serving.champions import Champions
from tumorflow.serving.drift import DriftLog
from tumorflow.serving.guard import Guard, describe_as_problem
from tumorflow.serving.measures import Measures
from tumorflow.serving.model import Model
from tumorflow.serving.pages import Asset, read_asset, render_page
from tumorflow.serving.prediction import Examined, Wanted, conclude, facts, too_long
from tumorflow.serving.problems import MEDIA_TYPE, ProblemError, describe
from tumorflow.serving.settings import Keys, Limits
from tumorflow.serving.uploads import Refused, Stored, refuse_more_files, store
from tumorflow.serving.workers import Workers, crashed

FILE_FIELDS = ("file", "files")
BROKEN = "The body is a multipart form. Received: one that is cut off or malformed."
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": description}
    for status, description in {
        400: "The body is no multipart form.",
        401: "The API key is missing or nobody's.",
        408: "The body arrived too slowly.",
        413: "There is more than is taken.",
        415: "The body is another thing than a form.",
        422: "Nothing in the request can be used.",
        429: "As many requests as are taken at a time are being worked on.",
        503: "There is no champion, or the answer took too long.",
    }.items()
}
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "DICOM files of a series, zip archives of such, or PNG and JPEG "
                            "where the model reads pictures.",
                        },
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "The same, for a single file.",
                        },
                    },
                }
            }
        },
    }
}


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
        self.requests = 0
        self.alone = asyncio.Semaphore(1)
        self.files = ThreadPoolExecutor(workers.count, thread_name_prefix="files")

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

    async def predict(self, request: Request, wanted: Wanted) -> Prediction:
        """Returns the answer to a request.

        Raises:
            ProblemError: it has none.
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
            form = await self._read_form(request)
            model = self.model
            found = await self._wait(self._examine(model, find_bodies(form), wanted), request)
        finally:
            for file in getattr(request.state, "files", ()):
                file.close()
            self.requests -= 1
            self.measures.working.dec()
        prediction = conclude(model, found, wanted, self.limits, request.state.request_id)
        self.drift.write(model.about, found)
        self.measures.count(prediction)
        request.state.log = {
            "slices": len(prediction.slices),
            "refused": len(prediction.refused),
            "model": prediction.model.model_hash[:12],
        }
        return prediction

    async def _read_form(self, request: Request) -> FormData:
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
            return await parser.parse()
        except MultiPartException as error:
            if error.message.startswith("Too many files"):
                raise refuse_more_files(self.limits) from error
            raise ProblemError(400, "broken_body", BROKEN) from error
        except (FormParserError, KeyError, ValueError) as error:
            raise ProblemError(400, "broken_body", BROKEN) from error
        finally:
            # also those whose end did not come, which are in no form
            request.state.files = parser._files_to_close_on_error

    async def _examine(
        self, model: Model, bodies: list[BinaryIO], wanted: Wanted
    ) -> list[Examined | Refused]:
        """Returns what was found in files; no more are begun at a time than there are workers."""
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + self.limits.answer_s
        found: list[Examined | Refused] = []
        begun: deque[tuple[Stored | Refused, asyncio.Future[list[Examined | Refused]]]] = deque()
        files: deque[Stored | Refused] = deque()
        try:
            await loop.run_in_executor(
                self.files, lambda: files.extend(store(bodies, self.scratch, self.limits))
            )
            while files or begun:
                while files and len(begun) <= self.workers.count:
                    file = files.popleft()
                    work = self.workers.examine(model, file, wanted, self.limits, deadline)
                    begun.append((file, asyncio.wrap_future(work)))
                file, examining = begun[0]
                try:
                    found += await examining
                except BrokenProcessPool:
                    found += await self._examine_again(model, file, wanted, deadline)
                begun.popleft()
                if len(found) > self.limits.slices:
                    raise ProblemError(
                        413,
                        "too_many_slices",
                        f"A request has at most {self.limits.slices} slices. Received: more.",
                    )
        finally:
            left = [file for file, _ in begun] + list(files)
            if begun:
                await asyncio.wait([examining for _, examining in begun])
            for file in left:
                if isinstance(file, Stored):
                    file.path.unlink(missing_ok=True)
        return found

    async def _examine_again(
        self, model: Model, file: Stored | Refused, wanted: Wanted, deadline: float
    ) -> list[Examined | Refused]:
        """Returns what was found in a file that was open when a worker crashed: it, or another, was why."""
        if isinstance(file, Stored) and file.path.exists():
            async with self.alone:
                try:
                    work = self.workers.examine(model, file, wanted, self.limits, deadline)
                    return await asyncio.wrap_future(work)
                except BrokenProcessPool:
                    file.path.unlink(missing_ok=True)
        return [crashed(file.number if isinstance(file, Stored) else file.file)]

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
            work.cancel()  # what was begun is waited for
            await asyncio.wait({work})
            if work.cancelled() or work.exception() is not None:
                raise _gone() if left else too_long(self.limits)
        return work.result()


def _gone() -> ProblemError:
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


def build(
    champions: Champions,
    workers: Workers,
    limits: Limits,
    keys: Keys,
    drift: DriftLog,
    *,
    scratch: Path,
    log: Callable[[str], None] = print,
) -> tuple[Guard, Service]:
    """Returns the ASGI application, and its state.

    Args:
        champions: the models that answer.
        workers: who examines files.
        limits: of a request.
        keys: of those who may ask; none: everybody.
        drift: is told each slice's features.
        scratch: folder in which files wait for their turn.
        log: is told one line a request.
    """
    service = Service(champions, workers, limits, drift, scratch)
    app = FastAPI(
        title="tumorflow",
        version=__version__,
        description=f"Tumour classification in CT. {DISCLAIMER}",
        docs_url=None,  # its page comes from a CDN
        redoc_url=None,
    )
    add_problems(app)
    add_routes(app, service)
    add_pages(app, service)
    return Guard(app, limits, keys, service.measures, log), service


def add_routes(app: FastAPI, service: Service) -> None:
    """Adds what can be asked."""

    @app.post("/predict", response_model=Prediction, responses=PROBLEMS, openapi_extra=FORM)
    async def predict_route(
        request: Request,
        explain: Annotated[bool, Query(description="Add Grad-CAM overlays.")] = False,
        picture: Annotated[bool, Query(description="Add pictures of what the model saw.")] = False,
    ) -> Response:
        """Says what the champion thinks of a study: by slice, and by patient."""
        prediction = await service.predict(request, Wanted(overlays=explain, pictures=picture))
        return Response(prediction.model_dump_json(by_alias=True), media_type="application/json")

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Says that the process lives."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: PROBLEMS[503]})
    async def readyz() -> dict[str, str]:
        """Says whether requests can be answered."""
        return {"status": "ready", "model": service.model.about.model_hash}

    @app.get("/version", responses={503: PROBLEMS[503], 401: PROBLEMS[401]})
    async def version() -> dict[str, str | ModelFacts]:
        """Says which model answers."""
        return {"tumorflow": __version__, "model": facts(service.model), "disclaimer": DISCLAIMER}

    @app.get("/metrics", response_class=Response, responses={401: PROBLEMS[401]})
    async def metrics() -> Response:
        """Gives counts and durations to Prometheus."""
        return Response(service.measures.render(), media_type=service.measures.content_type)


def add_pages(app: FastAPI, service: Service) -> None:
    """Adds the pages, what they are made of, and the model for the one that runs it itself."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return _send(render_page("server"))

    @app.get("/on-device", include_in_schema=False)
    async def on_device_page() -> Response:
        return _send(render_page("device"))

    @app.get("/assets/{path:path}", include_in_schema=False)
    async def assets(path: str, request: Request) -> Response:
        asset = read_asset(path)
        if asset is None:
            raise HTTPException(404)
        if request.headers.get("if-none-match") == asset.headers["etag"]:
            return Response(status_code=304, headers={"etag": asset.headers["etag"]})
        return _send(asset)

    @app.get("/model", response_class=Response, responses={503: PROBLEMS[503], 401: PROBLEMS[401]})
    async def model_file() -> Response:
        """Gives the champion's TFLite file, which says itself how to use it."""
        model = service.model
        headers = {"x-model-version": model.about.version, "etag": f'"{model.about.file_hash}"'}
        return Response(model.content, media_type="application/octet-stream", headers=headers)


def _send(asset: Asset) -> Response:
    return Response(asset.content, headers=dict(asset.headers))


def add_problems(app: FastAPI) -> None:
    """Makes every failure a problem that names its rule and repeats nothing of the request."""

    def answer(request: Request, problem: ProblemError) -> Response:
        body = describe(
            problem.status, problem.rule, problem.detail, request.state.request_id, **problem.more
        )
        headers = {} if problem.retry_after_s is None else {"retry-after": str(problem.retry_after_s)}
        return JSONResponse(body, problem.status, headers, media_type=MEDIA_TYPE)

    def on(kind: type[Exception]) -> Callable[[Callable[..., Awaitable[Response]]], object]:
        return app.exception_handler(kind)

    @on(ProblemError)
    async def tell_problem(request: Request, problem: ProblemError) -> Response:
        return answer(request, problem)

    @on(HTTPException)
    async def tell_http(request: Request, error: HTTPException) -> Response:
        if known := getattr(request.state, "problem", None):
            return answer(request, known)
        rule, detail = {
            400: ("broken_body", BROKEN),
            404: ("not_found", "GET /openapi.json lists what can be asked. Received: another path."),
            405: ("wrong_method", "GET /openapi.json says with which method a path is asked."),
        }.get(error.status_code, ("refused", "The request cannot be answered."))
        response = answer(request, ProblemError(error.status_code, rule, detail))
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response

    @on(ClientDisconnect)
    async def tell_nobody(request: Request, _error: ClientDisconnect) -> Response:
        return answer(request, _gone())

    @on(RequestValidationError)
    async def tell_invalid(request: Request, error: RequestValidationError) -> Response:
        places = ", ".join(sorted({".".join(map(str, each["loc"][:2])) for each in error.errors()}))
        return answer(
            request,
            ProblemError(
                422, "bad_parameter", f"Parameters have values of their types. Received: another in {places}."
            ),
        )

    @on(Exception)
    async def tell_unforeseen(request: Request, error: Exception) -> Response:
        return answer(request, describe_as_problem(error))
