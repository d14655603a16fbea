"""A small Kubeflow Pipelines: the v2beta1 routes that tumorflow uses, on loopback and in memory.

Requests and replies pass through the models of kfp-server-api, so that a field which Kubeflow does not know
is an error here as well. What the real server does with names, filters and pages was read in its source.
"""

import email
import email.policy
import functools
import json
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api
import yaml

ROOT = "/apis/v2beta1"
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ENGINE_TASKS = ("root", "root-driver", "exit-handler-1", "exit-handler-1.onExit", "tumorflow-train-x7x2k")
GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}


class Refused(Exception):
    """A reply that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Fault:
    """What goes wrong with the next requests of one kind."""

    method: str
    path: str
    times: int
    status: int = 0
    html: bool = False
    location: str = ""
    drop: str = ""
    """`before` or `after` the request has had its effect."""
    seconds: float = 0.0


@dataclass
class KubeflowServer:
    """What the server holds, and how it behaves."""

    url: str = ""
    tag_name: str = "2.17.0"
    multi_user: bool = False
    token: str = ""
    page_limit: int = 100
    next_run_id: str = ""
    frames: list[tuple[str | None, dict[str, str]]] = field(default_factory=list)
    """The run's state and its tasks' states, request by request; the last one stays. None: not known yet."""
    error: str = ""
    experiments: dict[str, Any] = field(default_factory=dict)
    pipelines: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    recurring: dict[str, Any] = field(default_factory=dict)
    deletions: list[tuple[str, str]] = field(default_factory=list)
    """Recurring runs that were deleted, each with its propagation policy."""
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def fail(self, method: str, path: str, times: int = 1, **what: Any) -> None:
        """Lets the next requests go wrong whose path begins like this."""
        self.faults.append(Fault(method, ROOT + path, times, **what))

    def add_experiment(self, name: str, namespace: str = "") -> Any:
        made = api.V2beta1Experiment(
            experiment_id=str(uuid.uuid4()), display_name=name, namespace=namespace, created_at=START
        )
        self.experiments[made.experiment_id] = made
        return made

    def handle(  # noqa: PLR0911, PLR0912 - one case a route
        self, method: str, path: str, query: dict[str, str], body: bytes, kind: str
    ) -> Any:
        """Returns the reply to a request: a model, or plain JSON."""
        parts = path.removeprefix(ROOT).strip("/").split("/")
        match method, parts:
            case "GET", ["healthz"]:
                return {
                    "commit_sha": "7b70c7b",
                    "tag_name": self.tag_name,
                    "multi_user": self.multi_user,
                    "pipeline_store": "database",
                }
            case "GET", ["experiments"]:
                found = [entry for entry in self.experiments.values() if self._visible(entry, query)]
                return self._page(found, query, api.V2beta1ListExperimentsResponse, "experiments")
            case "POST", ["experiments"]:
                asked = parsed(body, "V2beta1Experiment")
                if asked.display_name in [entry.display_name for entry in self.experiments.values()]:
                    raise Refused(409, f"The name {asked.display_name} already exists")
                if self.multi_user and not asked.namespace:
                    raise Refused(400, "An experiment cannot have an empty namespace in multi-user mode")
                return self.add_experiment(asked.display_name, asked.namespace or "")
            case "GET", ["pipelines"]:
                found = [entry for entry in self.pipelines.values() if self._visible(entry, query)]
                return self._page(found, query, api.V2beta1ListPipelinesResponse, "pipelines")
            case "POST", ["pipelines"]:
                made = parsed(body, "V2beta1Pipeline")
                made.pipeline_id = str(uuid.uuid4())
                self.pipelines[made.pipeline_id] = made
                return made
            case "POST", ["pipelines", "upload_version"]:
                return self._upload(query, body, kind)
            case "GET", ["pipelines", pipeline_id, "versions"]:
                found = [entry for entry in self.versions.values() if entry.pipeline_id == pipeline_id]
                return self._page(found, query, api.V2beta1ListPipelineVersionsResponse, "pipeline_versions")
            case "GET", ["pipelines", _, "versions", version_id]:
                return held(self.versions, version_id)
            case "POST", ["runs"]:
                return self._create_run(parsed(body, "V2beta1Run"))
            case "GET", ["runs"]:
                found = list(self.runs.values())
                if query.get("sort_by") == "created_at desc":
                    found.reverse()
                if "experiment_id" in query:
                    found = [entry for entry in found if entry.experiment_id == query["experiment_id"]]
                return self._page(found, query, api.V2beta1ListRunsResponse, "runs")
            case "GET", ["runs", run_id]:
                return self._advance(held(self.runs, run_id))
            case "POST", ["recurringruns"]:
                return self._create_recurring_run(parsed(body, "V2beta1RecurringRun"))
            case "GET", ["recurringruns"]:
                found = list(self.recurring.values())
                return self._page(found, query, api.V2beta1ListRecurringRunsResponse, "recurring_runs")
            case "POST", ["recurringruns", action]:
                recurring_id, _, verb = action.partition(":")
                held(self.recurring, recurring_id).status = {"enable": "ENABLED", "disable": "DISABLED"}[verb]
                return {}
            case "DELETE", ["recurringruns", recurring_id]:
                held(self.recurring, recurring_id)
                del self.recurring[recurring_id]
                self.deletions.append((recurring_id, query.get("propagation_policy", "")))
                return {}
        raise Refused(404, f"Not Found: {method} {path}")

    def _visible(self, entry: Any, query: dict[str, str]) -> bool:
        if self.multi_user and not query.get("namespace"):
            raise Refused(400, "Namespace cannot be empty in multi-user mode")
        return not self.multi_user or entry.namespace == query["namespace"]

    def _page(self, found: list[Any], query: dict[str, str], response: Any, name: str) -> Any:
        predicates = json.loads(query.get("filter") or "{}").get("predicates", [])
        for predicate in predicates:
            wanted = predicate.get("string_value", predicate.get("stringValue"))
            if (predicate["operation"], predicate["key"]) not in (
                ("EQUALS", "display_name"),
                (1, "display_name"),
            ):
                raise Refused(400, "failed to parse valid filter")
            found = [entry for entry in found if entry.display_name == wanted]
        start = int(query.get("page_token") or 0)
        end = start + min(int(query.get("page_size") or 20), self.page_limit)
        token = str(end) if end < len(found) else ""
        return response(**{name: found[start:end]}, total_size=len(found), next_page_token=token)

    def _upload(self, query: dict[str, str], body: bytes, kind: str) -> Any:
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        form = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        definition = next(form.iter_parts()).get_payload(decode=True).decode()
        held(self.pipelines, query["pipelineid"])
        made = api.V2beta1PipelineVersion(
            pipeline_id=query["pipelineid"],
            pipeline_version_id=str(uuid.uuid4()),
            name=query["name"],
            display_name=query["name"],
            description=query.get("description"),
            created_at=START,
            pipeline_spec=spec_of(definition),
        )
        self.versions[made.pipeline_version_id] = made
        self.definitions[made.pipeline_version_id] = definition
        return made

    def _create_run(self, run: Any) -> Any:
        held(self.experiments, run.experiment_id)
        version = held(self.versions, run.pipeline_version_reference.pipeline_version_id)
        spec = version.pipeline_spec.get("pipeline_spec", version.pipeline_spec)
        given, wanted = run.runtime_config.parameters, spec["root"]["inputDefinitions"]["parameters"]
        if set(given) != set(wanted):
            raise Refused(400, f"input parameters do not match: {sorted(set(given) ^ set(wanted))}")
        run.run_id, self.next_run_id = self.next_run_id or str(uuid.uuid4()), ""
        run.state = "PENDING"
        run.created_at = START + timedelta(minutes=len(self.runs))
        self.runs[run.run_id] = run
        return run

    def _advance(self, run: Any) -> Any:
        if not self.frames:
            return run
        state, tasks = self.frames.pop(0) if len(self.frames) > 1 else self.frames[0]
        run.state = state
        run.finished_at = START if state in ("SUCCEEDED", "FAILED", "CANCELED") else NEVER
        run.error = api.GoogleRpcStatus(code=2, message=self.error) if self.error else None
        details = [task_detail(run.run_id, name, "RUNNING", 0) for name in ENGINE_TASKS]
        for order, (name, task_state) in enumerate(tasks.items()):
            details += [
                task_detail(run.run_id, f"{name}-driver", "SUCCEEDED", order),
                task_detail(run.run_id, name, task_state, order),
                task_detail(run.run_id, "executor", task_state, order),
                task_detail(run.run_id, "executor(0)", task_state, order),
            ]
        run.run_details = api.V2beta1RunDetails(task_details=details)
        return run

    def _create_recurring_run(self, made: Any) -> Any:
        held(self.versions, made.pipeline_version_reference.pipeline_version_id)
        made.recurring_run_id = str(uuid.uuid4())
        made.status = "ENABLED" if made.mode == "ENABLE" else "DISABLED"
        made.created_at = START
        self.recurring[made.recurring_run_id] = made
        return made


def task_detail(run_id: str, name: str, state: str, order: int) -> Any:
    """Returns a task as the server shows it: times in whole seconds, no time as the year 1."""
    began = START + timedelta(seconds=60 * order)
    ended = (
        began + timedelta(seconds=42) if state in ("SUCCEEDED", "FAILED") else datetime(1, 1, 1, tzinfo=UTC)
    )
    return api.V2beta1PipelineTaskDetail(
        run_id=run_id,
        task_id=f"{name}-{order}",
        display_name=name,
        create_time=START,
        start_time=began,
        end_time=ended,
        state=state,
    )


@functools.cache
def spec_of(definition: str) -> dict[str, Any]:
    """Returns a definition as the server hands it out: both documents under their names, if there are two."""
    spec, *platforms = yaml.safe_load_all(definition)
    return {"pipeline_spec": spec, "platform_spec": platforms[0]} if platforms else spec


def held(entries: dict[str, Any], key: str) -> Any:
    if key not in entries:
        raise Refused(404, f"ResourceNotFoundError: {key} not found.")
    return entries[key]


def parsed(body: bytes, model: str) -> Any:
    """Returns the model of a request's body; a field that the model lacks is refused, as the gateway does."""
    given = json.loads(body)
    kind = getattr(api, model)
    unknown = set(given) - set(kind.attribute_map.values())
    if unknown:
        raise Refused(400, f"unknown field {sorted(unknown)}")

    class Answer:
        data = body

    return api.ApiClient().deserialize(Answer(), model)


class Handler(BaseHTTPRequestHandler):
    """One request: faults first, then the state."""

    protocol_version = "HTTP/1.1"
    held: KubeflowServer

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        state = self.held
        state.requests.append(f"{method} {address.path}")
        fault = self._next_fault(method, address.path)
        if fault and fault.seconds:
            time.sleep(fault.seconds)
        if fault and fault.html:
            return self._send(200, b"<html><form action=/dex/auth>Log in</form></html>", "text/html")
        if fault and fault.location:
            return self._send(302, b"", "text/html", location=fault.location)
        if fault and fault.drop == "before":
            self.close_connection = True
            return None
        try:
            if fault and fault.status:
                raise Refused(fault.status, "something is wrong")
            if state.token and self.headers.get("authorization") != f"Bearer {state.token}":
                raise Refused(401, "Request header error: there is no user identity header.")
            reply = state.handle(method, address.path, query, body, self.headers.get("content-type", ""))
        except Refused as refused:
            told = {"error": str(refused), "code": GRPC_CODES.get(refused.status, 2), "message": str(refused)}
            return self._send(refused.status, json.dumps(told).encode())
        if fault and fault.drop == "after":
            self.close_connection = True
            return None
        return self._send(200, json.dumps(api.ApiClient().sanitize_for_serialization(reply)).encode())

    def _next_fault(self, method: str, path: str) -> Fault | None:
        for fault in self.held.faults:
            if fault.method == method and path.startswith(fault.path) and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def _send(self, status: int, body: bytes, kind: str = "application/json", location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def make_certificate(folder: Path) -> Path:
    """Returns the file of a certificate for 127.0.0.1 that signs itself; its key lies beside it."""
    import ipaddress
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return folder / "certificate.pem"


@contextmanager
def serving(certificates: Path | None = None) -> Iterator[KubeflowServer]:
    """Yields a server that listens on loopback, by TLS where it is given a folder for its certificate."""
    state = KubeflowServer()
    handler = type("BoundHandler", (Handler,), {"held": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that hangs up over a certificate is no news
    if certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(make_certificate(certificates), certificates / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.url = f"http{'s' if certificates else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
