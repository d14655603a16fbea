"""The registry's server: where it keeps what, what it refuses to start with, and whether it is ready."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tumorflow.errors import ParameterError, UnavailableError, UsageError
from tumorflow.review.settings import WEBHOOK_SECRET, read_settings
from tumorflow.tracking.connection import without_credentials

ADMINISTRATOR = "admin"
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105 - its name
SECRET_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"  # noqa: S105 - its name
USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
BACKEND, ARTIFACTS = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"
ALLOWED_HOSTS, ORIGINS = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
PLACEHOLDER = "replace-me"
SHORTEST_PASSWORD, SHORTEST_KEY = 12, 32
"""Characters; of a password, MLflow's own."""
READY = "/readyz"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
POSTGRESQL = "postgresql+psycopg://"
_DEFAULT = re.compile(
    r"(password|passwort|passwd|admin|administrator|root|secret|my-secret-key|change-?me|default|example|mlflow"
    r"|tumorflow|postgres|letmein|qwerty)[\W\d_]*",
    re.IGNORECASE,
)
_FEWEST_CHARACTERS = 5  # different ones
_BELOW_A_DOMAIN = re.compile(r"(\*\.[\w-]+\.)?[\w-][\w.-]*(:(\d+|\*))?")
"""MLflow takes a * anywhere; here it stands for what is below a domain of two names, or for a port."""


@dataclass(frozen=True)
class Place:
    """Where the server keeps its tables, its accounts and its artifacts."""

    backend_store_uri: str
    """sqlite or PostgreSQL; without a password."""
    accounts_uri: str
    """The same PostgreSQL; or a sqlite file beside the other, so that neither waits for the other's lock."""
    artifacts_destination: str
    """A folder, or an address such as s3://bucket/mlflow."""

    @property
    def folder(self) -> Path | None:
        """The folder with the sqlite files; None: the tables are in PostgreSQL."""
        if not self.backend_store_uri.startswith("sqlite"):
            return None
        return Path(self.backend_store_uri.removeprefix("sqlite:///")).parent


def read_place(environment: Mapping[str, str]) -> Place:
    """Returns where the environment says; by default files below runs/registry.

    Raises:
        ParameterError: the database is of a kind that the registry is not proven with.
    """
    own = Path.cwd() / "runs" / "registry"
    uri = environment.get(BACKEND) or f"sqlite:///{own}/mlflow.db"
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///")).absolute()
        accounts = path.with_name(f"{path.stem}-accounts{path.suffix}")
        uris = f"sqlite:///{path}", f"sqlite:///{accounts}"
        own = path.parent
    elif uri.startswith(POSTGRESQL):
        uris = (_without_password(uri),) * 2
    else:
        raise ParameterError(
            f"{BACKEND} is {POSTGRESQL}USER@HOST/DATABASE or sqlite:///FILE. Received: "
            f"{without_credentials(uri)}. Leave it out for a file below runs/registry."
        )
    destination = environment.get(ARTIFACTS) or str(own / "artifacts")
    if "://" not in destination:
        destination = str(Path(destination).absolute())
    return Place(*uris, destination)


def _without_password(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{at}{host}"


def read_database_password(environment: Mapping[str, str]) -> str:
    """Returns PostgreSQL's password: of the address, else PGPASSWORD; empty: there is none."""
    from urllib.parse import unquote

    user = environment.get(BACKEND, "").partition("://")[2].rpartition("@")[0]
    return unquote(user.partition(":")[2]) or environment.get("PGPASSWORD", "")


def find_weak_secrets(environment: Mapping[str, str], *, prepared: bool = False) -> list[str]:
    """Returns a sentence for each secret that is missing, a default, too short or not filled in.

    Args:
        environment: of the server.
        prepared: the accounts are there, and the administrator's password is not needed.
    """
    left = sorted(name for name, value in environment.items() if PLACEHOLDER in value)
    found = [f"Every {PLACEHOLDER} needs a value of yours. Received: one in {name}." for name in left]
    needed = {SECRET_KEY: SHORTEST_KEY}
    if not prepared:
        needed[ADMIN_PASSWORD] = SHORTEST_PASSWORD
        if environment.get(USERNAME) or environment.get(PASSWORD):
            needed[PASSWORD] = SHORTEST_PASSWORD
            if not environment.get(USERNAME):
                found.append(f"{PASSWORD} is of an account. Received: no {USERNAME}. Name the account.")
    if read_settings(environment).webhook_urls:
        needed[WEBHOOK_SECRET] = SHORTEST_KEY
    for name, shortest in needed.items():
        if fault := describe_weakness(environment.get(name, ""), shortest):
            found.append(
                f"{name} is a secret of at least {shortest} characters that nobody can guess. "
                f"Received: {fault}. Make one: export {name}=$(openssl rand -base64 24)"
            )
    if (password := read_database_password(environment)) and _DEFAULT.fullmatch(password):
        found.append("The database's password is nobody's default. Received: a default. Set another one.")
    return found


def describe_weakness(secret: str, shortest: int) -> str:
    """Returns what is wrong with a secret, in a few words that do not repeat it; empty: nothing."""
    if not secret:
        return "none"
    if PLACEHOLDER in secret or _DEFAULT.fullmatch(secret) or len(set(secret)) < _FEWEST_CHARACTERS:
        return "a default"
    return f"{len(secret)} characters" if len(secret) < shortest else ""


def choose_allowed_hosts(host: str, port: int, given: str) -> str:
    """Returns the names that the server answers to, with commas between them.

    Raises:
        UsageError: it can be reached from elsewhere and nobody said by which names, or every name is let in.
    """
    names = [name.strip() for name in given.split(",") if name.strip()]
    if wide := [name for name in names if "*" in name and not _BELOW_A_DOMAIN.fullmatch(name)]:
        raise UsageError(
            "--allowed-hosts names those that browsers may use, against DNS rebinding. Received: "
            f"'{wide[0]}'. Name them: registry.your-hospital.test:{port},localhost:{port}"
        )
    if names:
        return ",".join(names)
    if host not in LOOPBACK:
        raise UsageError(
            f"A server that others reach needs --allowed-hosts, or {ALLOWED_HOSTS}. Received: --host {host} "
            f"without. Name them as browsers do: registry.your-hospital.test:{port},localhost:{port}"
        )
    return f"localhost:{port},127.0.0.1:{port},[::1]:{port}"


def choose_origins(allowed_hosts: str, given: str) -> str:
    """Returns the sites whose pages may change something, with commas between them: its own, and those given.

    MLflow refuses what a page sends unless it knows the page's site, even where that is the server itself.
    """
    names = [name for name in allowed_hosts.split(",") if "*" not in name]
    own = [f"{scheme}://{name}" for name in names for scheme in ("https", "http")]
    others = [origin.strip().rstrip("/") for origin in given.split(",") if origin.strip()]
    return ",".join(dict.fromkeys([*own, *others]))


def choose_shown_host(allowed_hosts: str, port: int) -> str:
    """Returns the name by which a person may open the server: the first that stands for itself alone."""
    return next((name for name in allowed_hosts.split(",") if "*" not in name), f"localhost:{port}")


def refuse_taken_port(host: str, port: int) -> None:
    """Does nothing if the server can listen there.

    Raises:
        UsageError: another program does.
    """
    try:
        if not 0 < port < 65536:  # which getaddrinfo would fold into the range
            raise OSError(None, "no such port")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UsageError(
            f"The server listens at an address and port of this machine that nothing else uses. "
            f"Received: {host}:{port}, {error.strerror or 'unusable'}. Choose another by --port."
        ) from error


def describe_configuration(place: Place) -> str:
    """Returns MLflow's configuration of accounts; there is no secret in it."""
    return (
        "[mlflow]\n"
        "default_permission = READ\n"  # who has an account reads everything
        f"database_uri = {place.accounts_uri.replace('%', '%%')}\n"
        f"admin_username = {ADMINISTRATOR}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        # a request costs a password hash otherwise; a changed password counts everywhere after a minute
        "auth_cache_ttl_seconds = 60\n"
    )


def find_unready(backend_store_uri: str, artifacts_destination: str) -> list[str]:
    """Returns a sentence for each store that does not answer; an empty list: the server can work."""
    faults = [_find_database_fault(backend_store_uri), _find_artifacts_fault(artifacts_destination)]
    return [fault for fault in faults if fault]


def _find_database_fault(uri: str) -> str:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    rule = "The database answers and holds MLflow's tables."
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return f"{rule} Received: no file at {uri}."  # to ask would make one
    patience = {"connect_timeout": 5} if uri.startswith("postgresql") else {}
    engine = create_engine(uri, poolclass=NullPool, connect_args=patience)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT version_num FROM alembic_version")).one()
    except SQLAlchemyError as error:  # its text may hold the address with what is secret in it
        return f"{rule} Received: {type(error).__name__} from {without_credentials(uri)}."
    return ""


def _find_artifacts_fault(destination: str) -> str:
    rule = "The artifact store can be listed."
    if "://" not in destination or destination.startswith("file://"):
        folder = Path(destination.removeprefix("file://"))
        return "" if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else f"{rule} Received: no {folder}."
    try:
        _list(destination)
    except UnavailableError as error:
        return f"{rule} Received: {error} from {without_credentials(destination)}."
    return ""


def _list(destination: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if not destination.startswith("s3://"):
        try:
            get_artifact_repository(destination).list_artifacts()
        except (MlflowException, OSError) as error:
            raise UnavailableError(type(error).__name__) from error
        return
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = destination.removeprefix("s3://").partition("/")
    patience = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1})
    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None
    try:
        store = boto3.client("s3", endpoint_url=endpoint, config=patience)
        store.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except (BotoCoreError, ClientError) as error:
        raise UnavailableError(type(error).__name__) from error


def find_unready_server(address: str) -> list[str]:
    """Returns a sentence for each of a server's two answers that is not well: alive, and ready."""
    import requests

    faults = []
    for path in ("/health", READY):
        try:
            answer = requests.get(address.rstrip("/") + path, timeout=20)
        except requests.RequestException as error:
            return [
                f"The server answers. Received: {type(error).__name__} from {without_credentials(address)}."
            ]
        if not answer.ok:
            faults.append(f"The server answers {path} with 200. Received: {answer.status_code}.")
    return faults
