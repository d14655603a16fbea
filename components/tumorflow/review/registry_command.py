"""`tumorflow registry`: the tracking server where reviewers decide, its accounts and whether it is ready."""

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from tumorflow.errors import UnavailableError, UsageError
from tumorflow.review.policy import ROLES
from tumorflow.review.roles import SUMMARIES

if TYPE_CHECKING:
    from tumorflow.review.accounts import Account

SUMMARY = "serve MLflow with accounts, reviews and an audit; accounts and roles; readiness"
EXAMPLE = (
    "tumorflow registry serve\n"
    "  tumorflow registry users add ada --role reviewer --password-from ADA_PASSWORD"
)
DEFAULT_ADDRESS = "http://127.0.0.1:5000"
MLFLOWS_OWN_WARNING = "starlette.middleware.wsgi is deprecated"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parts = parser.add_subparsers(required=True, metavar="PART", title="parts")
    serve = parts.add_parser("serve", help="prepare the database and serve until Ctrl-C")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=5000, help="port to listen at (default: 5000)")
    serve.add_argument("--workers", type=int, default=2, help="processes that answer (default: 2)")
    serve.add_argument(
        "--allowed-hosts",
        default="",
        metavar="NAMES",
        help="host names that it answers to, with commas (default: MLFLOW_SERVER_ALLOWED_HOSTS, or loopback)",
    )
    serve.add_argument(
        "--prepared", action="store_true", help="`registry prepare` has run: change no table, role or account"
    )
    serve.set_defaults(part=_serve)
    prepare = parts.add_parser("prepare", help="bring tables, roles and accounts up to date, and end")
    prepare.set_defaults(part=_prepare)
    check = parts.add_parser("check", help="say whether the server, its database and its artifacts answer")
    check.add_argument("--url", default="", help="ask a server (default: ask the stores of the environment)")
    check.set_defaults(part=_check)
    users = parts.add_parser("users", help="accounts and roles, as administrator of MLFLOW_TRACKING_URI")
    _add_users(users.add_subparsers(required=True, metavar="ACT", title="acts"))


def _add_users(acts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    roles = "; ".join(f"{role}: {SUMMARIES[role]}" for role in ROLES)
    add = acts.add_parser("add", help="make an account, or give one these roles and no other")
    add.add_argument("name")
    add.add_argument("--role", action="append", required=True, choices=ROLES, dest="roles", help=roles)
    add.add_argument("--password-from", metavar="VARIABLE", help="the variable that holds the password")
    add.set_defaults(part=_add)
    acts.add_parser("list", help="list accounts and roles").set_defaults(part=_list)
    remove = acts.add_parser("remove", help="remove an account")
    remove.add_argument("name")
    remove.set_defaults(part=_remove)
    apply = acts.add_parser("apply", help="make the accounts of a file, with these roles and no other")
    apply.add_argument("file", help="YAML: a list of {name, roles, password_from}")
    apply.add_argument("--prune", action="store_true", help="remove those that the file does not name")
    apply.set_defaults(part=_apply)


def run(given: argparse.Namespace) -> int:
    """Returns the exit code of the part that was asked for."""
    warnings.filterwarnings("ignore", MLFLOWS_OWN_WARNING)
    code: int = given.part(given)
    return code


def _prepare(_: argparse.Namespace) -> int:
    _make_ready(prepared=False)
    print("The database is ready.")
    return 0


def _make_ready(*, prepared: bool) -> Path:
    """Returns MLflow's configuration of accounts, after making this process' environment the server's."""
    from tumorflow.review import preparation, server

    environment = preparation.read_environment(os.environ, prepared=prepared)
    place = server.read_place(environment)
    os.environ.update(environment)
    configuration = preparation.write_configuration(place)
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(configuration)
    if not prepared:
        preparation.prepare(place, environment, print)
    return configuration


def _serve(given: argparse.Namespace) -> int:
    from tumorflow.cli import NOTICE
    from tumorflow.review import server

    names = given.allowed_hosts or os.environ.get(server.ALLOWED_HOSTS, "")
    hosts = server.choose_allowed_hosts(given.host, given.port, names)
    server.refuse_taken_port(given.host, given.port)
    if given.workers < 1:
        raise UsageError(f"Someone has to answer. Received: --workers {given.workers}. Give at least one.")
    _make_ready(prepared=given.prepared)
    os.environ |= {
        server.ALLOWED_HOSTS: hosts,
        server.ORIGINS: server.choose_origins(hosts, os.environ.get(server.ORIGINS, "")),
        "PYTHONWARNINGS": f"ignore:{MLFLOWS_OWN_WARNING}",
    }
    for unneeded in (  # the accounts are in the database; and the server is nobody's client
        server.ADMIN_PASSWORD, "MLFLOW_AUTH_ADMIN_USERNAME", server.USERNAME, server.PASSWORD,
        "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI",
    ):  # fmt: skip
        os.environ.pop(unneeded, None)
    address = f"http://{server.choose_shown_host(hosts, given.port)}"
    print(
        f"The registry is at {address}; log in as {server.ADMINISTRATOR}, or with "
        f"an account of `tumorflow registry users add`. Ctrl-C ends it.\n{NOTICE}",
        flush=True,
    )
    mlflow = Path(sys.executable).with_name("mlflow")
    options = ["--app-name", "tumorflow", "--host", given.host, "--port", str(given.port)]
    # in the place of this process, so that signals reach it
    os.execv(mlflow, [str(mlflow), "server", *options, "--workers", str(given.workers)])  # noqa: S606 - no shell is meant


def _check(given: argparse.Namespace) -> int:
    from tumorflow.review import server

    if given.url:
        faults = server.find_unready_server(given.url)
    else:
        place = server.read_place(os.environ)
        if password := server.read_database_password(os.environ):
            os.environ["PGPASSWORD"] = password
        faults = server.find_unready(place.backend_store_uri, place.artifacts_destination)
    if faults:
        raise UnavailableError(" ".join(faults) + " Check the server's log and its settings.")
    print("ready")
    return 0


def _address() -> str:
    address = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_ADDRESS
    if not address.startswith(("http://", "https://")):
        raise UsageError(
            "Accounts are those of a server, MLFLOW_TRACKING_URI. Received: an address without http. "
            f"Set it: export MLFLOW_TRACKING_URI={DEFAULT_ADDRESS}"
        )
    return address


def _add(given: argparse.Namespace) -> int:
    from tumorflow.review.accounts import parse_account

    entry = {"name": given.name, "roles": given.roles, "password_from": given.password_from}
    return _change([parse_account(entry, os.environ)])


def _apply(given: argparse.Namespace) -> int:
    from tumorflow.review.accounts import read_accounts

    return _change(read_accounts(Path(given.file), os.environ), prune=given.prune)


def _change(wanted: "list[Account]", *, prune: bool = False) -> int:
    from tumorflow.review.accounts import Directory, find_changes

    directory = Directory(_address())
    changes = find_changes(wanted, directory.read(), has_password=directory.has_password, prune=prune)
    directory.apply(changes, print)
    if not changes:
        print("nothing changed")
    return 0


def _list(_: argparse.Namespace) -> int:
    from tumorflow.review.accounts import Directory

    present = Directory(_address()).read()
    width = max(map(len, present), default=0)
    for name, account in sorted(present.items()):
        roles = ", ".join(sorted(account.roles)) or (
            "administrator" if account.is_administrator else "no role"
        )
        print(f"{name:<{width}}  {roles}")
    return 0


def _remove(given: argparse.Namespace) -> int:
    from tumorflow.review.accounts import Change, Directory

    directory = Directory(_address())
    account = directory.read().get(given.name)
    if account is None:
        print("nothing changed: there is no such account")
        return 0
    if account.is_administrator:
        raise UsageError(f"An administrator stays. Received: {given.name}. Name another account.")
    directory.apply([Change("remove", given.name)], print)
    return 0
