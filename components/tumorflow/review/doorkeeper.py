"""What is asked of a request before MLflow sees it: some of its routes never come to Flask and its hooks."""

import os
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tumorflow.review.artifacts import judge_artifact
from tumorflow.review.policy import SAFE_METHODS, Refusal
from tumorflow.review.server import ORIGINS

if TYPE_CHECKING:
    from sqlalchemy import Engine

PROXY = "/mlflow-artifacts/"
CLOSED = ("/mlflow/assistant", "/mlflow/mcp-servers", "/gateway/", "/ajax-api/3.0/jobs")
"""Services for language models. The assistant runs commands on the server, for any account that comes by way
of loopback, and so past the accounts, into the database."""
SERVICE_CLOSED = Refusal(
    "services_closed",
    "This server keeps runs and models, and no assistant, gateway, job or MCP server. Received: a call of "
    "one. Run it elsewhere.",
)
OWN_PAGES = Refusal(
    "own_pages",
    "Only pages of this server change something in the name of whoever is logged in. Received: a request of "
    f"another site's page. Work from this server's, or name that site in {ORIGINS}.",
)


class Doorkeeper:
    """Refuses other sites' pages, changes of sealed artifacts, and services that have no place here."""

    def __init__(self, app: ASGIApp, engine: "Engine") -> None:
        self._app = app
        self._engine = engine
        self._origins = frozenset(filter(None, os.environ.get(ORIGINS, "").split(",")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, unless it is refused."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            refusal = judge_page(Headers(scope=scope), self._origins) or judge_service(scope["path"])
            _, found, path = scope["path"].partition(PROXY)
            if found and not refusal:
                refusal = await to_thread.run_sync(self.judge, scope["method"], path)
            if refusal:
                content = {"error_code": "PERMISSION_DENIED", "message": str(refusal)}
                await JSONResponse(content, status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def judge(self, method: str, path: str) -> Refusal | None:
        """Returns why the artifacts at a path stay; None: they may change."""
        with self._engine.connect() as connection:
            return judge_artifact(connection, method, path)


def judge_page(headers: Headers, origins: Collection[str]) -> Refusal | None:
    """Returns why a page may not send this; None: it is the server's own, an allowed one, or no page sent it.

    A browser adds a person's password to whatever any page sends here, and MLflow lets all pages of the
    person's own machine through: a notebook's, or another tool's that shows what others have made.
    """
    origin = headers.get("origin")
    if origin is None or origin in origins or urlsplit(origin).netloc == headers.get("host"):
        return None
    return OWN_PAGES


def judge_service(path: str) -> Refusal | None:
    """Returns why a service is not there; None: the path is none's."""
    before = path.partition(PROXY)[0]
    return SERVICE_CLOSED if any(part in f"{before}/" for part in CLOSED) else None
