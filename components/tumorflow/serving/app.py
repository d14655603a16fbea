"""The routes. `GET /openapi.json` describes them."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tumorflow import __version__
from tumorflow.serving.answers import DISCLAIMER, ModelFacts, Prediction, Problem, Pushed
from tumorflow.serving.champions import Champions
from tumorflow.serving.drift import DriftLog
from tumorflow.serving.guard import OPEN_PATHS, Guard, describe_as_problem
from tumorflow.serving.pages import Asset, read_assets, render_page
from tumorflow.serving.prediction import Wanted, facts
from tumorflow.serving.problems import MEDIA_TYPE, ProblemError, describe
from tumorflow.serving.service import BROKEN, Service, describe_gone, pack_files
from tumorflow.serving.settings import Keys, Limits
from tumorflow.serving.tokens import Issuer
from tumorflow.serving.workers import Workers

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
        503: "There is no champion, no room, or the answer took too long.",
    }.items()
}
PUSH_PROBLEM: dict[str, Any] = {
    "model": Problem,
    "content": {MEDIA_TYPE: {}},
    "description": "There is no archive, or it did not take the results.",
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


def build(
    champions: Champions,
    workers: Workers,
    limits: Limits,
    keys: Keys,
    drift: DriftLog,
    *,
    scratch: Path,
    log: Callable[[str], None] = print,
    issuer: Issuer | None = None,
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
        issuer: whose bearer tokens are taken, beside the keys.
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
    if keys.digests or issuer:
        describe_keys(app)
    return Guard(app, limits, keys, service.measures, log, issuer), service


def describe_keys(app: FastAPI) -> None:
    """Adds to the description how a caller says who it is."""
    describe_routes = app.openapi

    def describe_all() -> dict[str, Any]:
        described = describe_routes()
        described["components"]["securitySchemes"] = {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key, or an issuer's token.",
            },
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        described["security"] = [{"bearer": []}, {"key": []}]
        for path in OPEN_PATHS:
            for route in described["paths"].get(path, {}).values():
                route["security"] = []
        return described

    app.openapi = describe_all  # type: ignore[method-assign]  # FastAPI's own way to add to it


def add_routes(app: FastAPI, service: Service) -> None:
    """Adds what can be asked."""

    @app.post("/predict", response_model=Prediction, responses=PROBLEMS, openapi_extra=FORM)
    async def predict_route(
        request: Request,
        explain: Annotated[bool, Query(description="Add Grad-CAM overlays.")] = False,
        picture: Annotated[bool, Query(description="Add pictures of what the model saw.")] = False,
    ) -> Response:
        """Says what the champion thinks of a study: by slice, and by patient."""
        with service.place():
            prediction, _ = await service.predict(request, Wanted(overlays=explain, pictures=picture))
        return Response(prediction.model_dump_json(by_alias=True), media_type="application/json")

    @app.post(
        "/report",
        responses={**PROBLEMS, 200: {"content": {"application/zip": {}}, "description": "DICOM files."}},
        response_class=Response,
        openapi_extra=FORM,
    )
    async def report_route(request: Request) -> Response:
        """Gives the answer as DICOM files: a structured report a study, and an overlay a slice."""
        with service.place():
            prediction, objects = await service.report(request)
        return Response(
            pack_files(objects),
            media_type="application/zip",
            headers={"content-disposition": f'attachment; filename="tumorflow-{prediction.request_id}.zip"'},
        )

    @app.post(
        "/push",
        response_model=Pushed,
        responses={**PROBLEMS, 502: PUSH_PROBLEM, 404: PUSH_PROBLEM},
        openapi_extra=FORM,
    )
    async def push_route(request: Request) -> Pushed:
        """Sends the answer's DICOM files to the archive that the service was told of."""
        archive = service.archive
        if archive is None:
            raise ProblemError(
                404, "no_archive", "The service was started with --pacs. Received: no archive."
            )
        with service.place():
            prediction, objects = await service.report(request)
            await service.push(archive, objects)
        return Pushed(stored=len(objects), request_id=prediction.request_id)

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
        asset = read_assets().get(path)
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
        return answer(request, describe_gone())

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
