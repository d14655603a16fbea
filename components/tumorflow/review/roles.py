"""What each role may do, as grants of MLflow's own kind. What `champion` needs besides is the policy's."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tumorflow.review.policy import ENGINEER, PIPELINE, REVIEWER, VIEWER

WORKSPACE = "default"
"""MLflow's, where a server has no others."""
SUMMARIES: Mapping[str, str] = {
    ENGINEER: "starts runs and registers models",
    PIPELINE: "a service account: runs, registers and sets the alias candidate",
    REVIEWER: "reads everything; approves, rejects and rolls back",
    VIEWER: "reads everything",
}


class Grant(NamedTuple):
    """A right on every resource of a type."""

    resource: str
    """As MLflow names its types (mlflow.server.auth.permissions)."""
    permission: str
    """READ; EDIT: also change; MANAGE: also delete."""


# A type without a grant follows the one it is part of: a version its model; a logged model its experiment.
# Who creates an experiment or a model has MANAGE on it by MLflow itself.
_READ_ALL = (Grant("experiment", "READ"), Grant("registered_model", "READ"))
_WORK = (
    Grant("experiment", "EDIT"),  # runs, metrics, artifacts and logged models in anybody's experiment
    Grant("registered_model", "EDIT"),  # versions and aliases of anybody's model
    # a request whose answer was lost is sent again: of the two runs or versions that it made, one goes
    Grant("run", "MANAGE"),
    Grant("registered_model_version", "MANAGE"),
)
GRANTS: Mapping[str, tuple[Grant, ...]] = {
    ENGINEER: _WORK,
    PIPELINE: _WORK,
    # MLflow takes an alias from whoever may change the model; runs stay as they are
    REVIEWER: (Grant("experiment", "READ"), Grant("registered_model", "EDIT")),
    VIEWER: _READ_ALL,
}


class GrantChanges(NamedTuple):
    """What turns a role's present grants into those of the table."""

    add: tuple[Grant, ...]
    remove: tuple[tuple[str, str], ...]
    """Type and pattern."""


def compare_grants(role: str, present: Iterable[tuple[str, str, str]]) -> GrantChanges:
    """Returns the changes that make a role what the table says.

    Args:
        role: one of the table's.
        present: type, pattern and permission of each grant that it has.
    """
    wanted = {(grant.resource, "*", grant.permission) for grant in GRANTS[role]}
    has = set(present)
    return GrantChanges(
        add=tuple(Grant(resource, permission) for resource, _, permission in sorted(wanted - has)),
        remove=tuple((resource, pattern) for resource, pattern, _ in sorted(has - wanted)),
    )
