"""What stands before every route: who asks, how much arrives and how fast, and one log line a request."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tumorflow.cli import describe_unforeseen
from tumorflow.serving.measures import Measures
from tumorflow.serving.problems import MEDIA_TYPE, ProblemError, describe
from tumorflow.serving.settings import SLOWEST_BYTES_PER_S, Keys, Limits
from tumorflow.serving.tokens import Issuer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
OPEN_PATHS = ("/", "/on-device", "/healthz", "/readyz")
"""The pages, which ask for a key themselves, and Kubernetes' probes, which have none; they tell no result."""
OPEN_FOLDER = "/assets/"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


class Guard:
    """An ASGI application in front of another."""

    def __init__(
        self,
        application: Application,
        limits: Limits,
        keys: Keys,
        measures: Measures,
        log: Callable[[str], None],
        issuer: Issuer | None = None,
    ) -> None:
        self._application = application
        self._limits = limits
        self._keys = keys
        self._measures = measures
        self._log = log
        self._issuer = issuer

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes a request on that may be answered, and logs what came of it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status: int | None = None

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message["headers"]}
                added = {**HEADERS, "x-request-id": request_id}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in added.items()
                        if name.encode() not in given
                    ),
                ]
            await send(message)

        who = ""
        try:
            who = await self._authenticate(scope)
            self._check_announced(scope)
            await self._application(scope, self._counted(scope, receive), send_on)
        except ProblemError as problem:
            await respond(problem, request_id, send_on)
        except asyncio.CancelledError:  # the service ends, and does not wait any longer
            if status is None:
                await respond(_ending(), request_id, send_on)
            raise
        except Exception as error:  # noqa: BLE001 - a traceback may hold data
            scope["state"]["log"] = {"error": describe_unforeseen(error)}
            if status is None:
                await respond(describe_as_problem(error), request_id, send_on)
        finally:
            seconds = time.perf_counter() - started
            more = scope["state"].get("log", {})
            self._tell(request_id, name_route(scope), status, seconds, who, more)

    def note(self, request_id: str, status: int) -> None:
        """Logs and counts what was refused before it was a request."""
        self._tell(request_id, "other", status, 0.0, "", {})

    def _tell(
        self,
        request_id: str,
        route: str,
        status: int | None,
        seconds: float,
        who: str,
        more: MutableMapping[str, Any],
    ) -> None:
        self._measures.requests.labels(route, str(status)).inc()
        self._measures.seconds.labels(route).observe(seconds)
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request_id": request_id,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "caller": who,
            **more,
        }
        self._log(json.dumps(line))

    async def _authenticate(self, scope: Message) -> str:
        path = scope["path"]
        closed = self._keys.digests or self._issuer
        if not closed or path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            return ""
        headers = dict(scope["headers"])
        given = headers.get(b"x-api-key", b"").decode("latin-1")
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        name = self._keys.find_name(given) or self._keys.find_name(token)
        if name is None and token and self._issuer:
            name = await self._issuer.find_name(token)
        if name is None:
            raise ProblemError(
                401,
                "not_authenticated",
                "The service is asked with an API key or an issuer's token, as it is set up: "
                "Authorization: Bearer KEY.",
            )
        return name

    def _check_announced(self, scope: Message) -> None:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._limits.body_bytes:
            raise self._too_large()

    def _too_large(self) -> ProblemError:
        return ProblemError(
            413,
            "too_large",
            f"A request has at most {self._limits.body_bytes} bytes. Received: more. Send fewer files.",
        )

    def _counted(self, scope: Message, receive: Receive) -> Receive:
        received, complete, started = 0, False, time.monotonic()

        async def receive_within_limits() -> Message:
            nonlocal received, complete
            if complete:  # what comes now is the end of the connection
                return await receive()
            deadline = started + self._limits.patience_s + received / SLOWEST_BYTES_PER_S
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                problem = ProblemError(
                    408, "too_slow", "A request's body arrives without a pause. Received: a part of it."
                )
                scope["state"]["problem"] = problem
                raise problem from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if received > self._limits.body_bytes:
                    scope["state"]["problem"] = self._too_large()
                    raise scope["state"]["problem"]
            return message

        return receive_within_limits


def _ending() -> ProblemError:
    return ProblemError(
        503,
        "ending",
        "A service that ends finishes what is done in time. Received: a request that is not. Ask again.",
        retry_after_s=5,
    )


def name_route(scope: Message) -> str:
    """Returns the path of the route that took a request; `other` for none: paths may hold anything."""
    route = scope.get("route")
    return str(getattr(route, "path", "") or "other")


def describe_as_problem(error: Exception) -> ProblemError:
    """Returns what is told of an error that nobody foresaw: its kind, not its text."""
    return ProblemError(
        500, "unforeseen", f"A request gets an answer. Received: {type(error).__name__}, unforeseen."
    )


async def respond(problem: ProblemError, request_id: str, send: Send) -> None:
    """Sends a problem as the answer."""
    body = json.dumps(describe(problem.status, problem.rule, problem.detail, request_id, **problem.more))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body.encode())).encode())]
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", str(problem.retry_after_s).encode()))
    if problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if problem.status in (408, 413):
        headers.append((b"connection", b"close"))  # what is left of the body is not waited for
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
