"""`tumorflow review`: a reviewer's decisions, by MLflow's client; the server judges them."""

import argparse
from typing import TYPE_CHECKING, Any

from tumorflow.errors import ParameterError, RefusedError, UsageError
from tumorflow.review.policy import APPROVE, BY, REJECT, ROLL_BACK, STATUS

if TYPE_CHECKING:
    from mlflow import MlflowClient

SUMMARY = "approve, reject or roll back a model version"
EXAMPLE = 'tumorflow review approve tumorflow-ct 4 --reason "recall of malignant .84, as asked"'
ACTS = {
    "approve": (APPROVE, "make a version the champion"),
    "reject": (REJECT, "say that a version is not to be used; the champion loses the alias"),
    "rollback": (ROLL_BACK, "make a former champion the champion again"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the acts, and the list of what waits for one."""
    acts = parser.add_subparsers(title="acts", required=True, metavar="ACT")
    listed = acts.add_parser("list", help="the versions of a model, and what was decided on them")
    listed.add_argument("name", metavar="NAME", help="the registered model")
    listed.set_defaults(review=lambda given: print("\n".join(describe_versions(_connect(), given.name))))
    for name, (tag, summary) in ACTS.items():
        act = acts.add_parser(name, help=summary)
        act.add_argument("name", metavar="NAME", help="the registered model")
        which = "the version to go back to" if tag == ROLL_BACK else "its version"
        act.add_argument("version", metavar="VERSION", help=which)
        act.add_argument("--reason", required=True, help="why, for the audit")
        act.set_defaults(review=_decide, tag=tag)


def _decide(given: argparse.Namespace) -> None:
    print(decide(_connect(), given.tag, given.name, given.version, given.reason))


def run(given: argparse.Namespace) -> int:
    """Returns 0 once the server has written the decision."""
    given.review(given)
    return 0


def decide(client: "MlflowClient", tag: str, name: str, version: str, reason: str) -> str:
    """Returns what the registry says after a decision.

    Raises:
        ParameterError: there is no such version.
        RefusedError: a rule of the server's forbids it.
        UnavailableError: the server cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    from tumorflow.tracking.connection import explained

    with explained():
        try:
            client.set_model_version_tag(name, version, tag, reason)
        except MlflowException as error:
            raise _explain(error, name, version) from error
        return describe_version(client.get_model_version(name, version))


def describe_versions(client: "MlflowClient", name: str) -> list[str]:
    """Returns a line for each version of a model, the newest first."""
    from tumorflow.tracking.connection import explained

    with explained():
        found = client.search_model_versions(f"name = '{name}'")
        if not found:
            raise ParameterError(
                f"A registered model has versions. Received: '{name}', without any. Look it up in MLflow."
            )
        return [
            describe_version(client.get_model_version(name, version.version))
            for version in sorted(found, key=lambda version: -int(version.version))
        ]


def describe_version(version: Any) -> str:
    """Returns what was decided on a version, in a line."""
    gate = version.tags.get("tumorflow.decision", "none")
    decided = f"{version.tags[STATUS]} by {version.tags[BY]}" if STATUS in version.tags else "not decided on"
    aliases = f"; alias {', '.join(sorted(version.aliases))}" if version.aliases else ""
    return f"{version.name}/{version.version}: gate {gate}; {decided}{aliases}"


def _explain(error: Any, name: str, version: str) -> Exception:
    if error.error_code == "PERMISSION_DENIED":
        return RefusedError(str(error.message).removeprefix(f"{error.error_code}: "))
    if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return ParameterError(
            f"A decision is on a version of the registry's. Received: {name}/{version}, which is not there. "
            "Look at the versions: tumorflow review list NAME"
        )
    raise error


def _connect() -> "MlflowClient":
    """Returns a client of a server that judges decisions.

    Raises:
        UsageError: MLFLOW_TRACKING_URI names none.
    """
    from tumorflow.tracking.connection import connect, tracking_uri, without_credentials

    if not tracking_uri().startswith(("http://", "https://")):
        raise UsageError(
            f"Decisions are made on a registry's server, which knows who decides (make registry). Received: "
            f"{without_credentials(tracking_uri())}. Set MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD."
        )
    return connect()
