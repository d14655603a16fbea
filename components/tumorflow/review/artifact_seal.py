"""MLflow's routes that never come to Flask: under uvicorn they are FastAPI's own."""

from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tumorflow.review.artifacts import judge_artifact
from tumorflow.review.policy import Refusal

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


class ArtifactSeal:
    """Refuses to write or remove artifacts that stay as they are, and services that have no place here."""

    def __init__(self, app: ASGIApp, engine: "Engine") -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, unless it would change what is sealed, or start what is closed."""
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            before, found, path = scope["path"].partition(PROXY)
            refusal = SERVICE_CLOSED if any(part in f"{before}/" for part in CLOSED) else None
            if found and not refusal:
                refusal = await to_thread.run_sync(self.judge, scope["method"], path)
            if refusal:
                content = {"error_code": "PERMISSION_DENIED", "message": str(refusal)}
                await JSONResponse(content, status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def judge(self, method: str, path: str) -> "Refusal | None":
        """Returns why the artifacts at a path stay; None: they may change."""
        with self._engine.connect() as connection:
            return judge_artifact(connection, method, path)
