"""The routes of MLflow's artifact proxy that never come to Flask: under uvicorn they are FastAPI's own."""

from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tumorflow.review.artifacts import judge_artifact

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tumorflow.review.policy import Refusal

PROXY = "/mlflow-artifacts/"


class ArtifactSeal:
    """Refuses to write or remove artifacts that stay as they are."""

    def __init__(self, app: ASGIApp, engine: "Engine") -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, unless it would change what is sealed."""
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            _, found, path = scope["path"].partition(PROXY)
            refusal = await to_thread.run_sync(self.judge, scope["method"], path) if found else None
            if refusal:
                content = {"error_code": "PERMISSION_DENIED", "message": str(refusal)}
                await JSONResponse(content, status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def judge(self, method: str, path: str) -> "Refusal | None":
        """Returns why the artifacts at a path stay; None: they may change."""
        with self._engine.connect() as connection:
            return judge_artifact(connection, method, path)
