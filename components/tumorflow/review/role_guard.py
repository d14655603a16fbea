"""Who is given a role, and who loses one, is in the audit: whoever makes a reviewer decides, too.

So does whoever sets another's password, and can then decide in their name; and whoever makes administrators.
"""

from collections.abc import Callable, Iterator
from typing import Literal

from mlflow.server.auth.db.models import SqlRole, SqlUser, SqlUserRoleAssignment
from sqlalchemy import Engine, event, inspect
from sqlalchemy.orm import Session

from tumorflow.review import ledger
from tumorflow.review.audit import Event
from tumorflow.review.guard import RefusedError
from tumorflow.review.policy import ROLES, Refusal


class RoleGuard:
    """Records what happens to the project's roles; one a server process."""

    def __init__(self, name_actor: Callable[[], str], engine: Engine) -> None:
        self._name_actor = name_actor
        self._engine = engine

    def install(self) -> None:
        """Listens to every session of this process from now on."""
        event.listen(Session, "before_flush", self.record_flush)

    def record_flush(self, session: Session, _context: object, _instances: object) -> None:
        """Records what a flush gives and takes; before it happens, since its database may be another one.

        Raises:
            RefusedError: a role would change its name, and everybody who has it their rights.
        """
        rows = [*session.deleted, *session.dirty, *session.new]
        for row in rows:
            if isinstance(row, SqlRole) and row not in session.new:
                refuse_rename(row)
        events = list(self.find_events(session, rows))
        if events:
            with self._engine.begin() as connection:
                for each in events:
                    ledger.append(connection, each)

    def find_events(self, session: Session, rows: list[object]) -> Iterator[Event]:
        """Yields an event for each of the project's roles, and each account's rights, that change hands."""
        for row in rows:
            if isinstance(row, SqlUser) and row not in session.deleted:
                yield from self.find_account_events(row)
            if not isinstance(row, SqlUserRoleAssignment) or row in session.dirty:
                continue
            role, user = session.get(SqlRole, row.role_id), session.get(SqlUser, row.user_id)
            if role is not None and user is not None and role.name in ROLES:
                action: Literal["role_given", "role_taken"]
                action = "role_taken" if row in session.deleted else "role_given"
                yield Event(action, self._name_actor(), reason=f"{role.name}: {user.username}")

    def find_account_events(self, row: SqlUser) -> Iterator[Event]:
        """Yields an event for an account that somebody else sets the password of, or makes administrator."""
        actor = self._name_actor()
        was = inspect(row).attrs
        if was.password_hash.history.deleted and row.username != actor:
            yield Event("password_set", actor, reason=row.username)
        if was.is_admin.history.has_changes() and (row.is_admin or was.is_admin.history.deleted):
            action: Literal["role_given", "role_taken"] = "role_given" if row.is_admin else "role_taken"
            yield Event(action, actor, reason=f"administrator: {row.username}")


def refuse_rename(row: SqlRole) -> None:
    """Does nothing, unless a role would change its name to or from one of the project's.

    Raises:
        RefusedError: it would.
    """
    former = inspect(row).attrs.name.history.deleted
    if former and {row.name, *former} & set(ROLES):
        raise RefusedError(
            Refusal(
                "roles_keep_names",
                f"A role keeps its name. Received: '{former[0]}' as '{row.name}'. Assign roles instead.",
            )
        )
