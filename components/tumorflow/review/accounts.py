"""Accounts and their roles: what is wanted, what that changes, and how the server is told.

A second time changes nothing. Roles that are no longer listed are taken away; passwords are set where given.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tumorflow.errors import ParameterError, SourceError, UnavailableError
from tumorflow.review.policy import ROLES
from tumorflow.review.roles import WORKSPACE
from tumorflow.review.server import ADMINISTRATOR, SHORTEST_PASSWORD, describe_weakness
from tumorflow.tracking.connection import without_credentials

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Account:
    """An account as it is wanted: these roles and no other."""

    name: str
    roles: frozenset[str]
    password: str = field(default="", repr=False)
    """Empty: as it is."""


@dataclass(frozen=True)
class Present:
    """An account as the server has it."""

    roles: frozenset[str]
    is_administrator: bool = False


@dataclass(frozen=True)
class Change:
    """One thing to do, and what it is said to be."""

    act: Literal["add", "set_password", "give", "take", "remove"]
    name: str
    role: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        words = {
            "add": f"added {self.name}",
            "set_password": f"set the password of {self.name}",
            "give": f"gave {self.name} the role {self.role}",
            "take": f"took the role {self.role} from {self.name}",
            "remove": f"removed {self.name}",
        }
        return words[self.act]


def parse_account(entry: Mapping[str, Any], environment: Mapping[str, str]) -> Account:
    """Returns the account that an entry describes: name, roles and, to set it, password_from a variable.

    Raises:
        ParameterError: a key, name or role is none there is, or the variable holds no good password.
    """
    if unknown := sorted(set(entry) - {"name", "roles", "password_from"}):
        raise ParameterError(f"An account has name, roles and password_from. Received: {', '.join(unknown)}.")
    name, roles = entry.get("name"), entry.get("roles") or []
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == ADMINISTRATOR:
        raise ParameterError(
            "An account's name has at most 64 letters, digits and ._@-, and is not the administrator's. "
            f"Received: {name!r}. Choose another."
        )
    if not isinstance(roles, list) or (wrong := [role for role in roles if role not in ROLES]):
        received = ", ".join(map(str, wrong)) if isinstance(roles, list) else type(roles).__name__
        raise ParameterError(f"A role is one of {', '.join(ROLES)}. Received: {received} for {name}.")
    variable = entry.get("password_from")
    password = environment.get(variable, "") if isinstance(variable, str) else ""
    if variable and (fault := describe_weakness(password, SHORTEST_PASSWORD)):
        raise ParameterError(
            f"A password has at least {SHORTEST_PASSWORD} characters and is nobody's default. "
            f"Received: {fault} in {variable}, for {name}. "
            f"Make one: export {variable}=$(openssl rand -base64 24)"
        )
    return Account(name, frozenset(roles), password)


def read_accounts(path: Path, environment: Mapping[str, str]) -> list[Account]:
    """Returns the accounts of a YAML file, a list of name, roles and password_from.

    Raises:
        SourceError: there is no such file, or it is no such list.
        ParameterError: an entry is wrong, or a name comes twice.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SourceError(
            f"Accounts are read from a YAML file. Received: {type(error).__name__} at {path}. Check it."
        ) from error
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise SourceError(
            f"The file lists accounts, each with name and roles. Received: something else in {path}. "
            "Write: - {name: ada, roles: [reviewer], password_from: ADA_PASSWORD}"
        )
    accounts = [parse_account(entry, environment) for entry in content]
    names = [account.name for account in accounts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ParameterError(f"A name comes once. Received: {', '.join(twice)} again in {path}.")
    return accounts


def find_changes(
    wanted: Sequence[Account],
    present: Mapping[str, Present],
    *,
    has_password: Callable[[str, str], bool] = lambda _name, _password: False,
    prune: bool = False,
) -> list[Change]:
    """Returns what is to be done, in order; nothing where all is as wanted.

    Args:
        wanted: accounts with their roles.
        present: the server's accounts by name.
        has_password: whether an account's present password is this one.
        prune: remove the accounts that are not wanted, but for administrators.

    Raises:
        ParameterError: a new account has no password, or one is an administrator's.
    """
    changes: list[Change] = []
    for account in wanted:
        has = present.get(account.name)
        if has is None:
            if not account.password:
                raise ParameterError(
                    f"A new account needs a password. Received: none for {account.name}. Put one into a "
                    "variable, and name the variable: --password-from, or password_from in a file."
                )
            changes.append(Change("add", account.name, password=account.password))
        elif has.is_administrator:
            raise ParameterError(
                f"An administrator gives roles and has none. Received: {account.name}. Take another account."
            )
        elif account.password and not has_password(account.name, account.password):
            changes.append(Change("set_password", account.name, password=account.password))
        roles = has.roles if has else frozenset[str]()
        changes += [Change("give", account.name, role) for role in sorted(account.roles - roles)]
        changes += [Change("take", account.name, role) for role in sorted(roles - account.roles)]
    if prune:
        names = {account.name for account in wanted}
        unwanted = sorted(name for name, has in present.items() if not has.is_administrator)
        changes += [Change("remove", name) for name in unwanted if name not in names]
    return changes


class Directory:
    """The accounts of a server, over HTTP, as its administrator."""

    def __init__(self, address: str) -> None:
        from mlflow.server.auth.client import AuthServiceClient

        self._address = address.rstrip("/")
        self._client = AuthServiceClient(self._address)

    def read(self) -> dict[str, Present]:
        """Returns the accounts by name.

        Raises:
            UnavailableError: the server does not answer, or not to this account.
        """
        from mlflow.server.auth.routes import LIST_USERS

        answer = self._ask(LIST_USERS)
        return {
            user["username"]: Present(_roles_of(user["roles"]), user["is_admin"]) for user in answer["users"]
        }

    def has_password(self, name: str, password: str) -> bool:
        """Returns whether an account's present password is this one."""
        import requests
        from mlflow.server.auth.routes import GET_CURRENT_USER

        try:
            answer = requests.get(self._address + GET_CURRENT_USER, auth=(name, password), timeout=30)
        except requests.RequestException as error:
            raise self._unavailable(type(error).__name__) from error
        return bool(answer.status_code == 200)

    def apply(self, changes: Iterable[Change], say: Callable[[str], None]) -> None:
        """Does the changes in their order, and says each once it is done.

        Raises:
            UnavailableError: the server does not answer, refuses, or has not been prepared.
        """
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            roles = {role.name: role.id for role in self._client.list_roles(WORKSPACE)}
            if missing := sorted(set(ROLES) - set(roles)):
                raise self._unavailable(f"a server without the roles {', '.join(missing)}")
            for change in changes:
                self._do(change, roles)
                say(str(change))
        except (MlflowException, RequestException) as error:
            code = error.error_code if isinstance(error, MlflowException) else type(error).__name__
            raise self._unavailable(code) from error

    def _do(self, change: Change, roles: Mapping[str, int]) -> None:
        match change.act:
            case "add":
                self._client.create_user(change.name, change.password)
            case "set_password":
                self._client.update_user_password(change.name, change.password)
            case "give":
                self._client.assign_role(change.name, roles[change.role])
            case "take":
                self._client.unassign_role(change.name, roles[change.role])
            case "remove":
                self._client.delete_user(change.name)

    def _ask(self, path: str) -> dict[str, Any]:
        import requests
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        try:
            answer = http_request(get_default_host_creds(self._address), path, "GET")
            answer.raise_for_status()
            return dict(answer.json())
        except (requests.RequestException, ValueError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            raise self._unavailable(str(status or type(error).__name__)) from error

    def _unavailable(self, received: str) -> UnavailableError:
        return UnavailableError(
            "The registry's server answers its administrator, MLFLOW_TRACKING_USERNAME and "
            f"MLFLOW_TRACKING_PASSWORD. Received: {received} from {without_credentials(self._address)}. "
            "Check the address and the account."
        )


def _roles_of(roles: Collection[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(
        role["name"] for role in roles if role["workspace"] == WORKSPACE and role["name"] in ROLES
    )
