"""Every route of MLflow's server that changes something, and what the policy does there.

A route that is not in the table fails: whoever adds a version of MLflow to PROVEN looks at its new routes.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import mlflow
import pytest
import requests
from servers import Registry, Version, make_registry, password_of

from tumorflow.review.app import PROVEN, READING_ENDPOINTS

pytestmark = pytest.mark.timeout(300)

POLICY = {
    # rows are judged by the guard before they are written
    "the version, its tags and aliases": (
        "POST model-versions/create",
        "POST model-versions/set-tag",
        "DELETE model-versions/delete-tag",
        "POST model-versions/transition-stage",
        "PATCH model-versions/update",
        "DELETE model-versions/delete",
        "POST registered-models/alias",
        "DELETE registered-models/alias",
        "POST registered-models/rename",
        "DELETE registered-models/delete",
    ),
    "the run behind it": (
        "POST runs/create",
        "POST runs/delete",
        "POST runs/delete-tag",
        "POST runs/log-batch",
        "POST runs/log-inputs",
        "POST runs/log-metric",
        "POST runs/log-model",
        "POST runs/log-parameter",
        "POST runs/outputs",
        "POST runs/restore",
        "POST runs/set-tag",
        "POST runs/update",
        "POST experiments/create",  # where its artifacts are kept
        "POST experiments/delete",  # deletes its runs
        "POST experiments/restore",
    ),
    "the logged model behind it; its tags by the request, since MLflow writes no rows there": (
        "POST logged-models",
        "DELETE logged-models/<model_id>",
        "PATCH logged-models/<model_id>",
        "POST logged-models/<model_id>/params",
        "PATCH logged-models/<model_id>/tags",
        "DELETE logged-models/<model_id>/tags/<tag_key>",
    ),
    "files, sealed by their path or by the run that the request names": (
        "DELETE mlflow-artifacts/artifacts/<path:artifact_path>",
        "PUT mlflow-artifacts/artifacts/<path:artifact_path>",
        "PUT mlflow-artifacts/artifacts/{artifact_path}",
        "POST mlflow-artifacts/mpu/*",
        "POST artifacts/presigned-upload-url",
        "POST upload-artifact",
    ),
    "accounts, which administrators manage; what they give, take or set goes into the audit": (
        "* users/*",
        "* roles/*",
    ),
    "closed: services for language models, one of which runs commands on the server": (
        "* assistant/*",
        "POST mcp-servers",
        "* mcp-servers/*",
        "* gateway/*",
        "POST /gateway/*",
        "POST jobs/",
        "POST jobs/search",
        "PATCH jobs/cancel/{job_id}",
    ),
    # what a reviewer neither decides on nor is shown
    "words about a model as a whole, or an experiment": (
        "POST registered-models/create",
        "POST registered-models/set-tag",
        "DELETE registered-models/delete-tag",
        "PATCH registered-models/update",
        "POST experiments/set-experiment-tag",
        "POST experiments/delete-experiment-tag",
        "POST experiments/update",
    ),
    "language models: traces, prompts, judges, their data and their demonstration": (
        "* traces",
        "* traces/*",
        "POST /v1/traces",
        "* datasets/*",
        "* demo/*",
        "* issues",
        "* issues/*",
        "* label-schemas/*",
        "* prompt-optimization/jobs*",
        "* review-queues/*",
        "* scorers/*",
        "POST scorer/invoke",
        "POST genai/evaluate/invoke",
        "POST gateway-proxy",
        "PATCH jobs/cancel/<job_id>",
        "POST runs/create-promptlab-run",  # a new run, whose maker is recorded as any other's
    ),
    "MLflow's own webhooks, which administrators manage, and which carry none of our decisions": (
        "* webhooks",
        "* webhooks/*",
    ),
    "workspaces, which the server is started without": ("* workspaces", "* workspaces/*"),
    "reads": (
        "POST /graphql",  # its one mutation gives back a word
        "POST artifacts/presigned-download-url",
        "POST experiments/search",
        "POST experiments/search-datasets",
        "POST */experiments/search-datasets",
        "POST logged-models/search",
        "POST registered-models/get-latest-versions",
        "POST runs/search",
        "POST ui-telemetry",
    ),
}
"""What a route is about, and how the policy sees to it → method and path, without the versions' prefixes."""

LIST_ROUTES = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
from tumorflow.review import preparation, server
environment = preparation.read_environment(os.environ)
place = server.read_place(environment)
os.environ.update(environment)
os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(preparation.write_configuration(place))
os.environ["_MLFLOW_SGI_NAME"] = "uvicorn"
os.environ["_MLFLOW_SERVER_FILE_STORE"] = place.backend_store_uri
os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = place.artifacts_destination
from mlflow.server import app as flask_app
from tumorflow.review.app import create_app
app = create_app()
rules = [(verb, rule.rule, rule.endpoint) for rule in flask_app.url_map.iter_rules() for verb in rule.methods]
paths = app.openapi()["paths"]
native = [(method.upper(), path, "") for path, methods in paths.items() for method in methods]
print(json.dumps([route for route in rules + native if route[0] not in ("GET", "HEAD", "OPTIONS")]))
"""


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str]]:
    """Method, path and Flask's endpoint of what changes something, in the server with the policy."""
    server = make_registry(tmp_path_factory.mktemp("routes"))
    listed = subprocess.run(
        [sys.executable, "-c", LIST_ROUTES],
        env={**os.environ, **server.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    return [tuple(route) for route in json.loads(listed.stdout.splitlines()[-1])]


def shortened(method: str, path: str) -> str:
    return f"{method} " + re.sub(r"^/(ajax-)?api/\d\.\d/(mlflow/)?", "", path)


def test_every_route_that_changes_something_was_looked_at(routes):
    patterns = [pattern for group in POLICY.values() for pattern in group]
    assert len(patterns) == len(set(patterns))
    known = {shortened(method, path) for method, path, _ in routes}
    assert len(known) > 150
    matches = {name: [p for p in patterns if fnmatchcase(name, p)] for name in sorted(known)}
    assert [name for name, found in matches.items() if len(found) != 1] == []
    assert [p for p in patterns if not any(p in found for found in matches.values())] == []


def test_what_is_let_through_as_reading_reads(routes):
    reading = {shortened(method, path) for method, path, name in routes if name in READING_ENDPOINTS}
    listed = {name for name in reading if any(fnmatchcase(name, pattern) for pattern in POLICY["reads"])}
    of_language_models = {
        "POST datasets/search", "POST issues/search", "POST traces/batchGetInfos", "POST traces/metrics",
        "POST traces/calculate-filter-correlation", "POST traces/search",
    }  # fmt: skip
    assert reading - listed == of_language_models


def test_the_policy_is_proven_with_the_version_that_is_pinned():
    root = Path(__file__).parents[2]
    (pinned,) = re.findall(r"^mlflow==(\S+)", (root / "requirements.lock").read_text(), re.MULTILINE)
    assert pinned == mlflow.__version__
    assert pinned in PROVEN


@pytest.fixture(scope="module")
def champion(registry: Registry) -> Version:
    version = registry.register("routes")
    assert registry.approve("rita", version).status_code == 200
    return version


@pytest.mark.parametrize("who", ["admin", "pipeline"])
def test_what_a_run_behind_a_version_took_and_made_stays(registry, champion, who):
    other = {"dataset": {"name": "other", "digest": "12", "source_type": "local", "source": "elsewhere"}}
    for path, content in (
        ("runs/log-inputs", {"datasets": [other]}),
        ("runs/log-inputs", {"models": [{"model_id": champion.model_id}]}),
        ("runs/outputs", {"models": [{"model_id": champion.model_id, "step": 7}]}),
    ):
        answer = registry.ask(who, "POST", path, json={"run_id": champion.run_id, **content})
        assert (answer.status_code, "'evidence_sealed'" in answer.text) == (403, True), answer.text
    told = registry.do("vic", "GET", "runs/get", run_id=champion.run_id)["run"]
    assert (told.get("inputs", {}), told.get("outputs", {})) == ({}, {})


@pytest.mark.parametrize("who", ["admin", "pipeline"])
def test_the_logged_model_behind_a_version_keeps_its_tags_and_parameters(registry, champion, who):
    path = f"logged-models/{champion.model_id}"
    added = {"model_id": champion.model_id, "params": [{"key": "floor", "value": "0"}]}
    for method, below, content in (
        ("PATCH", "/tags", {"tags": [{"key": "verdict", "value": "fine"}]}),
        ("DELETE", "/tags/verdict", {}),
        ("POST", "/params", added),
        ("PATCH", "", {"model_id": champion.model_id, "status": "LOGGED_MODEL_UPLOAD_FAILED"}),
    ):
        answer = registry.ask(who, method, path + below, json=content)
        assert (answer.status_code, "'evidence_sealed'" in answer.text) == (403, True), answer.text


def test_a_run_and_a_model_that_nothing_was_registered_from_are_changed(registry):
    version = registry.register("free", with_evidence=False)
    data = {"dataset": {"name": "more", "digest": "12", "source_type": "local", "source": "here"}}
    registry.do("pipeline", "POST", "runs/log-inputs", run_id=version.run_id, datasets=[data])
    tags = [{"key": "verdict", "value": "fine"}]
    registry.do("pipeline", "PATCH", f"logged-models/{version.model_id}/tags", tags=tags)


@pytest.mark.parametrize("who", ["admin", "ann", "rita", "vic", "nora"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),
        ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
        ("POST", "/ajax-api/3.0/mlflow/assistant/skills/install"),
        ("POST", "/ajax-api/3.0/jobs/"),
        ("POST", "/api/3.0/mlflow/mcp-servers"),
        ("POST", "/api/3.0/mlflow/gateway/secrets/create"),
        ("POST", "/gateway/proxy/any/mlflow-artifacts/any"),
        ("POST", "/gateway/mlflow-artifacts/mlflow/invocations"),
    ],
)
def test_no_service_runs_commands_on_the_server(registry, who, method, path):
    answer = requests.request(
        method,
        registry.url + path,
        json={"message": "sqlite3 mlflow.db", "providers": {}},
        auth=(who, password_of(who)),
        timeout=30,
    )
    assert (answer.status_code, "'services_closed'" in answer.text) == (403, True), answer.text


def test_an_alias_like_champion_from_before_the_policy_goes_and_does_not_come_back(registry, champion):
    with sqlite3.connect(registry.folder / "mlflow.db") as database:
        row = ("default", "routes", "Champion", 1)
        database.execute(
            "INSERT INTO registered_model_aliases (workspace, name, alias, version) VALUES (?, ?, ?, ?)", row
        )
    database.close()
    registry.do("admin", "DELETE", "registered-models/alias", name="routes", alias="Champion")
    answer = registry.set_alias("admin", champion, "Champion")
    assert (answer.status_code, registry.champion("routes")) == (403, "1")
