"""How Kubeflow Pipelines is reached: address, token, namespace and TLS, from options over the environment."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tumorflow.errors import UsageError

HOST = "KF_PIPELINES_ENDPOINT"
TOKEN = "KF_PIPELINES_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - a variable's name, kfp.Client's own
COOKIES = "KF_PIPELINES_COOKIES"
NAMESPACE = "KF_PIPELINES_NAMESPACE"
CA_CERT = "KF_PIPELINES_CA_CERT"


@dataclass(frozen=True)
class Connection:
    """Where Kubeflow Pipelines is, and who asks."""

    host: str
    """Address with scheme, without a slash at its end."""
    namespace: str
    """Empty where one installation serves one user."""
    token_file: Path | None
    """Read anew for every request, since a cluster renews it."""
    ca_cert: str
    verify: bool

    @property
    def place(self) -> str:
        """Where the server is, for people: without user and password."""
        address = urlsplit(self.host)
        return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"

    def token(self) -> str:
        """Returns the token, empty where there is none.

        Raises:
            UsageError: its file cannot be read.
        """
        if self.token_file is None:
            return os.environ.get(TOKEN, "").strip()
        try:
            return self.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--token-file names a readable file with a token. Received: {self.token_file} "
                f"({type(error).__name__}). Check the path."
            ) from error

    def cookies(self) -> str:
        """Returns the cookies of a session, as a proxy before Kubeflow set them; empty: none."""
        return os.environ.get(COOKIES, "").strip()


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where Kubeflow Pipelines is."""
    group = parser.add_argument_group(
        "Kubeflow Pipelines",
        f"A token comes from {TOKEN}, cookies from {COOKIES}: never from an option.",
    )
    group.add_argument("--host", metavar="URL", help=f"address of the API (default: {HOST})")
    group.add_argument(
        "--namespace", metavar="NAME", help=f"the runs' (default: {NAMESPACE}, cluster.namespace)"
    )
    group.add_argument("--token-file", metavar="FILE", help=f"file with a token (default: {TOKEN_FILE})")
    group.add_argument(
        "--ca-cert", metavar="FILE", help=f"who signs the server's certificate (default: {CA_CERT})"
    )
    group.add_argument("--insecure", action="store_true", help="do not check the server's certificate")


def connection_of(given: argparse.Namespace, default_namespace: str) -> Connection:
    """Returns the connection that options and environment name.

    Raises:
        UsageError: there is no address, or what is named is none.
    """
    host = (given.host or os.environ.get(HOST, "")).strip().rstrip("/")
    if not host:
        raise UsageError(
            f"The address of Kubeflow Pipelines comes from --host or {HOST}. Received: neither. Without "
            "an ingress: kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888, then "
            "--host http://localhost:8888"
        )
    if "://" not in host:
        host = f"https://{host}"  # as kfp.Client has it
    address = urlsplit(host)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise UsageError(
            f"--host is an address: http:// or https://, and a host. Received: '{_shown(host)}'. "
            "For example: https://kubeflow.example/pipeline"
        )
    token_file = given.token_file or os.environ.get(TOKEN_FILE, "")
    ca_cert = given.ca_cert or os.environ.get(CA_CERT, "")
    if ca_cert and not Path(ca_cert).is_file():
        raise UsageError(f"--ca-cert names a file of certificates. Received: {ca_cert}. Check the path.")
    connection = Connection(
        host=host,
        namespace=given.namespace or os.environ.get(NAMESPACE, "") or default_namespace,
        token_file=Path(token_file) if token_file else None,
        ca_cert=ca_cert,
        verify=not given.insecure,
    )
    connection.token()
    return connection


def api_client(connection: Connection) -> Any:
    """Returns a client of Kubeflow's generated API.

    Not kfp.Client: that one prints, warns, writes into the home folder and repeats each request for minutes.
    """
    import kfp_server_api
    import urllib3

    configuration = kfp_server_api.Configuration(host=connection.host)
    configuration.verify_ssl = connection.verify
    if connection.ca_cert:
        configuration.ssl_ca_cert = connection.ca_cert
    # a redirection is a login page's; what may change something is never sent twice
    configuration.retries = urllib3.Retry(
        total=2, redirect=False, backoff_factor=0.2, raise_on_redirect=False
    )
    if connection.token():
        configuration.api_key_prefix["authorization"] = "Bearer"
        configuration.refresh_api_key_hook = lambda current: current.api_key.update(
            authorization=connection.token()
        )
        configuration.api_key["authorization"] = connection.token()
    if not connection.verify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return kfp_server_api.ApiClient(configuration, cookie=connection.cookies() or None)


def _shown(host: str) -> str:
    return host.rpartition("@")[2]
