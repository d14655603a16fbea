"""MLflow's server with accounts, and with the policy in it: `mlflow server --app-name tumorflow`."""

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tumorflow.errors import UsageError
from tumorflow.review.policy import ROLES, SAFE_METHODS, VIEWER, WRITERS, Refusal
from tumorflow.review.settings import read_settings

if TYPE_CHECKING:
    from flask import Flask, Response
    from sqlalchemy import Engine

    from tumorflow.review.guard import Actor

PROVEN = ("3.17.2",)
"""The versions of MLflow that the attacks in tests/review are tried on."""
READING_ENDPOINTS = frozenset(
    {
        "_batch_get_trace_infos",
        "_calculate_trace_filter_correlation",
        "_create_presigned_download_url",
        "_get_latest_versions",
        "_graphql",
        "_query_trace_metrics",
        "_search_evaluation_datasets_handler",
        "_search_experiments",
        "_search_issues",
        "_search_logged_models",
        "_search_runs",
        "_search_traces_v3",
        "_search_datasets_handler",
        "serve_post_ui_telemetry",
    }
)
"""Of MLflow's routes, those that only read although they are no GET."""
LOGGED_MODEL_TAG_ENDPOINTS = ("_set_logged_model_tags", "_delete_logged_model_tag")
"""MLflow writes these past the session, where no row shows."""
ACCOUNT_ROUTES = ("/users/", "/roles/")
"""MLflow's own validators say who may manage accounts."""
AUDIT_PATH = "/api/2.0/tumorflow/audit"
READY_PATH = "/readyz"
PAGE = 1000
"""Entries in one answer."""


def create_app() -> Any:
    """Returns the application: FastAPI's under uvicorn, else Flask's.

    Raises:
        UsageError: the plug-in is not proven with this MLflow, or with a setting of it.
    """
    import mlflow
    from mlflow.server import ARTIFACTS_DESTINATION_ENV_VAR, BACKEND_STORE_URI_ENV_VAR
    from mlflow.server import app as flask_app
    from mlflow.server.auth import create_app as create_app_with_accounts
    from sqlalchemy import create_engine

    refuse_unproven(mlflow.__version__)
    settings = read_settings()
    engine = create_engine(os.environ[BACKEND_STORE_URI_ENV_VAR], pool_pre_ping=True)
    add_routes(flask_app, engine)
    app = create_app_with_accounts(flask_app)

    from tumorflow.review import delivery, ledger
    from tumorflow.review.guard import Guard
    from tumorflow.review.role_guard import RoleGuard

    ledger.create_table(engine)
    Guard(identify, settings.four_eyes).install()
    RoleGuard(lambda: identify().name, engine).install()
    # behind MLflow's own, which authenticates
    flask_app.before_request(lambda: judge_request(engine))
    if app is not flask_app:
        from tumorflow.review.doorkeeper import Doorkeeper

        app.add_middleware(Doorkeeper, engine=engine)
    delivery.start(engine, settings, os.environ.get(ARTIFACTS_DESTINATION_ENV_VAR, ""))
    return app


def refuse_unproven(version: str) -> None:
    """Does nothing, if the policy was tried on this version of MLflow and covers how it is set up.

    Raises:
        UsageError: it was not, or does not.
    """
    if version not in PROVEN:
        raise UsageError(
            f"The policy is proven with MLflow {', '.join(PROVEN)}. Received: {version}. Install that "
            "version, or try the attacks of tests/review on yours and add it to PROVEN."
        )
    if os.environ.get("MLFLOW_ENABLE_WORKSPACES", "false").lower() in ("true", "1"):
        raise UsageError("The policy knows one workspace. Received: MLFLOW_ENABLE_WORKSPACES. Leave it out.")


def identify() -> "Actor":
    """Returns who asks, with the roles that they have now; without a name outside of a request."""
    from flask import g, has_request_context

    from tumorflow.review.guard import Actor

    name = g.get("mlflow_authenticated_user", "") if has_request_context() else ""
    if not name:
        return Actor()
    if "tumorflow_actor" not in g:
        g.tumorflow_actor = Actor(name, read_roles(name))
    actor: Actor = g.tumorflow_actor
    return actor


def read_roles(name: str) -> frozenset[str]:
    """Returns which of the project's roles an account has."""
    from mlflow.server.auth import store
    from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME

    roles = store.list_user_roles_for_workspace(store.get_user(name).id, DEFAULT_WORKSPACE_NAME)
    return frozenset(role.name for role in roles) & set(ROLES)


def judge_request(engine: "Engine") -> "Response | None":
    """Returns the refusal of what no row shows: a viewer's writing, and files behind a version."""
    from flask import request

    if request.method in SAFE_METHODS or request.endpoint in READING_ENDPOINTS or request.endpoint is None:
        return None
    route = str(request.url_rule)  # in which is no artifact's path, as it would be in the address
    if any(part in route for part in ACCOUNT_ROUTES):
        return None
    actor = identify()
    if not actor.name:  # MLflow asks nobody's name there
        return None
    refusal = judge_writer(actor) or judge_files(engine)
    return answer(refusal) if refusal else None


def judge_writer(actor: "Actor") -> Refusal | None:
    """Returns why an account may write nothing; None: it may, or it is an administrator's."""
    from mlflow.server.auth import store

    if actor.roles & set(WRITERS) or store.get_user(actor.name).is_admin:
        return None
    held = VIEWER if VIEWER in actor.roles else "no role"
    return Refusal(
        "viewers_read",
        f"Only accounts with one of the roles {', '.join(WRITERS)} write. Received: {actor.name} with {held}."
        " Ask an administrator.",
    )


def judge_files(engine: "Engine") -> Refusal | None:
    """Returns why the files that a request is about stay as they are; None: they may change."""
    from flask import request

    from tumorflow.review import records
    from tumorflow.review.artifacts import SEALED, find_ids, judge_artifact

    named = request.view_args or {}
    if request.endpoint in LOGGED_MODEL_TAG_ENDPOINTS:
        with engine.connect() as connection:
            return SEALED if records.is_sealed(connection, [named["model_id"]]) else None
    path = named.get("artifact_path")
    if path is not None:
        with engine.connect() as connection:
            return judge_artifact(connection, request.method, path)
    if request.endpoint in ("serve_upload_artifact", "_create_presigned_upload_url"):
        body = request.get_json(force=True, silent=True)
        ids = find_ids({**(body if isinstance(body, dict) else {}), **request.args})
        with engine.connect() as connection:
            return SEALED if ids and records.is_sealed(connection, ids) else None
    return None


def answer(refusal: Refusal) -> "Response":
    """Returns a refusal as MLflow's clients and pages expect one."""
    from flask import jsonify

    logging.getLogger("tumorflow.review").warning(
        "%s asked for what is refused by %s", identify().name, refusal.rule
    )
    response = jsonify(error_code="PERMISSION_DENIED", message=str(refusal))
    response.status_code = 403
    return response


def add_routes(flask_app: "Flask", engine: "Engine") -> None:
    """Adds the audit, for whoever has an account, and the readiness, for whoever watches the server."""
    from flask import request
    from mlflow.server.handlers import STATIC_PREFIX_ENV_VAR

    prefix = os.environ.get(STATIC_PREFIX_ENV_VAR, "").rstrip("/")
    views: dict[str, tuple[str, Callable[[], Any]]] = {
        "tumorflow_audit": (AUDIT_PATH, lambda: read_audit(engine)),
        "tumorflow_ready": (READY_PATH, read_readiness),
    }
    for endpoint, (path, view) in views.items():
        flask_app.add_url_rule(prefix + path, endpoint, view, methods=["GET"])
    flask_app.before_request(ask_for_a_password)
    # before MLflow's own, which lets nobody but administrators through to routes that it does not know
    flask_app.before_request(lambda: views[request.endpoint][1]() if request.endpoint in views else None)


def ask_for_a_password() -> "Response | None":
    """Returns 401 to credentials of another kind, at which MLflow's own check ends in an error."""
    from flask import request
    from mlflow.server.auth import make_basic_auth_response

    if request.authorization is None or request.authorization.type == "basic":
        return None
    answer: Response = make_basic_auth_response()
    return answer


def read_audit(engine: "Engine") -> Any:
    """Returns the entries behind the one that `after` names."""
    from flask import jsonify, request
    from mlflow.server.auth import authenticate_request
    from werkzeug.datastructures import Authorization

    from tumorflow.review import ledger

    authorization = authenticate_request()
    if not isinstance(authorization, Authorization):
        return authorization
    after = request.args.get("after", "0")
    if not after.isdecimal() or len(after) > 18:
        message = "The audit is read behind an entry. Received: another 'after' than a number. Begin with 0."
        return jsonify(error_code="INVALID_PARAMETER_VALUE", message=message), 400
    with engine.connect() as connection:
        entries = ledger.read(connection, after=int(after))
    return jsonify(entries=[entry.as_json() for entry in entries[:PAGE]])


def read_readiness() -> Any:
    """Returns 200 if the database and the artifact store answer, else 503 and what does not."""
    from flask import jsonify
    from mlflow.server import ARTIFACTS_DESTINATION_ENV_VAR, BACKEND_STORE_URI_ENV_VAR

    from tumorflow.review.server import find_unready

    unready = find_unready(os.environ[BACKEND_STORE_URI_ENV_VAR], os.environ[ARTIFACTS_DESTINATION_ENV_VAR])
    return jsonify(ready=not unready, unready=unready), 503 if unready else 200
