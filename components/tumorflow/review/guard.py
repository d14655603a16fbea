"""The guard: what is about to be written to MLflow's tables is judged, and a decision goes with its audit.

It listens where every way in comes together, SQLAlchemy's `before_flush`, and so sees rows, not requests: two
readings of one request cannot differ. What it refuses, MLflow rolls back.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
)
from mlflow.store.tracking.dbmodels.models import (
    SqlExperiment,
    SqlInput,
    SqlLatestMetric,
    SqlLoggedModel,
    SqlLoggedModelMetric,
    SqlLoggedModelParam,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from sqlalchemy import event, inspect
from sqlalchemy.orm import Session

from tumorflow.evidence import HASH_TAG
from tumorflow.review import ledger, records
from tumorflow.review.artifacts import SEALED, judge_artifact
from tumorflow.review.audit import DECISIONS, Event
from tumorflow.review.decisions import Act, decide, upsert
from tumorflow.review.policy import (
    APPROVE,
    CHAMPION,
    REASON,
    REASON_BY,
    REJECT,
    REVIEWER,
    ROLL_BACK,
    Refusal,
    judge_alias_name,
    judge_tag,
    looks_like_champion,
)
from tumorflow.tracking.jobs import JOB_TAG, SUBMITTED_BY_TAG

logger = logging.getLogger("tumorflow.review")
KINDS: dict[str, Any] = {APPROVE: "approved", REJECT: "rejected", ROLL_BACK: "rolled_back"}


@dataclass(frozen=True)
class Actor:
    """Who asks, as the server authenticated them; without a name: no request asks."""

    name: str = ""
    roles: frozenset[str] = frozenset()


class RefusedError(MlflowException):  # type: ignore[misc]  # MLflow is untyped here
    """What MLflow answers with: 403, PERMISSION_DENIED and the sentence."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal), error_code=PERMISSION_DENIED)


class Guard:
    """Judges the rows of each flush; one a server process."""

    def __init__(self, identify: Callable[[], Actor], four_eyes: bool) -> None:
        self._identify = identify
        self._four_eyes = four_eyes

    def install(self) -> None:
        """Listens to every session of this process from now on."""
        event.listen(Session, "before_flush", self.judge_flush)

    def judge_flush(self, session: Session, _context: object, _instances: object) -> None:
        """Lets a flush go on, with what a decision adds to it.

        Raises:
            RefusedError: a rule forbids a row of it.
        """
        for row in [*session.deleted, *session.dirty, *session.new]:
            refusal = self.judge_row(session, row)
            if refusal:
                logger.warning("%s asked for what is refused by %s", self._identify().name, refusal.rule)
                raise RefusedError(refusal)

    def judge_row(self, session: Session, row: object) -> Refusal | None:
        """Returns why a row may not be written; None: it may, or nothing of it changes."""
        if row not in session.deleted and not session.is_modified(row):
            return None
        judges: dict[type, Callable[[Session, Any], Refusal | None]] = {
            SqlRegisteredModel: judge_model,
            SqlModelVersion: self.judge_version,
            SqlModelVersionTag: self.judge_version_tag,
            SqlRegisteredModelAlias: self.judge_alias,
            SqlExperiment: judge_experiment,
            SqlRun: self.judge_run,
            SqlTag: self.judge_run_tag,
            SqlInput: judge_link,
            **dict.fromkeys((SqlParam, SqlMetric, SqlLatestMetric), judge_part_of_run),
            **dict.fromkeys((SqlLoggedModel, SqlLoggedModelMetric, SqlLoggedModelParam), judge_logged_model),
        }
        judge = judges.get(type(row))
        return judge(session, row) if judge else None

    def judge_version(self, session: Session, row: SqlModelVersion) -> Refusal | None:
        """A new version is numbered and recorded; an old one is as it is, but for its deletion."""
        if row in session.new:
            return self.record_version(session, row)
        if row in session.deleted:
            return None  # with its registered model, which is judged
        connection = session.connection()
        changed = {attribute.key for attribute in inspect(row).attrs if attribute.history.has_changes()}
        if "current_stage" in changed:
            if row.current_stage == STAGE_DELETED_INTERNAL:
                return judge_deletion(session, row)
            return Refusal(
                "stages_closed",
                f"Versions have no stages here. Received: {row.current_stage} for {row.name}/{row.version}. "
                f"A reviewer makes a version '{CHAMPION}'.",
            )
        sealed = {"description", "source", "storage_location", "run_id", "run_link", "user_id", "status"}
        tags = records.read_tags(connection, row.workspace, row.name, row.version)
        if changed & sealed and HASH_TAG in tags:
            return Refusal(
                "version_sealed",
                "A version stays as it was registered. Received: another "
                f"{', '.join(sorted(changed & sealed))} of {row.name}/{row.version}. Register it anew, "
                "or say it in a tag of yours.",
            )
        return None

    def record_version(self, session: Session, row: SqlModelVersion) -> Refusal | None:
        """Writes into a new version who made it, and into the audit which evidence it came with."""
        actor, connection = self._identify(), session.connection()
        row.user_id = actor.name or None
        ledger.lock(connection)
        # under the lock: MLflow counted before it, and others may have registered since
        row.version = records.next_number(connection, row.workspace, row.name)
        tags = {tag.key: tag.value for tag in row.model_version_tags}
        if HASH_TAG in tags:
            ledger.append(
                connection,
                Event(
                    "registered", actor.name, row.name, str(row.version), evidence_hash=tags[HASH_TAG] or ""
                ),
            )
        return None

    def judge_version_tag(self, session: Session, row: SqlModelVersionTag) -> Refusal | None:
        """A tag of a reviewer's is an act; others of the project's stay as they were created."""
        parent = row.model_version or session.get(SqlModelVersion, (row.workspace, row.name, row.version))
        if row in session.deleted:
            return None if parent in session.deleted or parent is None else judge_tag(row.key)
        if parent in session.new:
            refusal = judge_tag(row.key)
            return refusal if refusal and refusal.rule != "version_sealed" else None
        if row.key in KINDS:
            actor = self._identify()
            act = Act(KINDS[row.key], actor.name, actor.roles, parent, row.value or "")
            withdraw(session, row)  # an act is done, not kept
            return decide(session, act, self._four_eyes)
        if row.key == REASON and REVIEWER in self._identify().roles:
            self.sign_reason(session, row)
            return None
        return judge_tag(row.key)

    def sign_reason(self, session: Session, row: SqlModelVersionTag) -> None:
        """Writes beside a reason whose it is, for an alias that only its author may set with it."""
        key = {"workspace": row.workspace, "name": row.name, "version": row.version, "key": REASON_BY}
        value = {"value": self._identify().name}
        upsert(session.connection(), SqlModelVersionTag.__table__, key, value)

    def judge_alias(self, session: Session, row: SqlRegisteredModelAlias) -> Refusal | None:
        """The alias `champion` is an act; whatever could be taken for it is refused."""
        if not looks_like_champion(row.alias):
            return None
        refusal = judge_alias_name(row.alias)
        if refusal:  # one from before the policy may go
            return None if row in session.deleted else refusal
        if row in session.deleted:
            if any(isinstance(other, SqlRegisteredModel) for other in session.deleted):
                return None  # with its registered model, which is judged
            return Refusal(
                "champion_stays",
                f"A champion is followed by another, or rejected. Received: the removal of '{CHAMPION}' from "
                f"{row.name}/{row.version}. Approve another version, roll back, or set the tag {REJECT}.",
            )
        version = session.get(SqlModelVersion, (row.workspace, row.name, row.version))
        tags = records.read_tags(session.connection(), row.workspace, row.name, row.version)
        actor = self._identify()
        reason = tags.get(REASON, "") if tags.get(REASON_BY) == actor.name else ""
        withdraw(session, row)  # the decision writes it
        return decide(session, Act("approved", actor.name, actor.roles, version, reason), self._four_eyes)

    def judge_run(self, session: Session, row: SqlRun) -> Refusal | None:
        """A new run bears who made it; the run behind a version stays as it ended."""
        if row in session.new:
            row.user_id = self._identify().name
            return None
        history = inspect(row).attrs.status.history
        before = history.deleted[0] if history.deleted else row.status
        removed = inspect(row).attrs.lifecycle_stage.history.has_changes()
        if removed or records.has_ended(SqlRun(status=before)):
            return judge_sealed(session, row.run_uuid)
        return None

    def judge_run_tag(self, session: Session, row: SqlTag) -> Refusal | None:
        """Which pipeline run a run belongs to stays, and nobody names another as its submitter."""
        if row.key in (JOB_TAG, SUBMITTED_BY_TAG):
            if row not in session.new:
                return Refusal(
                    "origin_kept",
                    f"Where a run comes from stays. Received: a change of its tag {row.key}. Make a new run.",
                )
            if row.key == SUBMITTED_BY_TAG and row.value != self._identify().name:
                return Refusal(
                    "origin_kept",
                    f"The tag {row.key} names who sets it. Received: {row.value} of "
                    f"{self._identify().name}. Set it to your own account.",
                )
        return judge_part_of_run(session, row)


def judge_model(session: Session, row: SqlRegisteredModel) -> Refusal | None:
    """A registered model that the audit speaks of keeps its name, and stays."""
    renamed = inspect(row).attrs.name.history
    if row in session.new or (row not in session.deleted and not renamed.has_changes()):
        return None
    name = renamed.deleted[0] if renamed.deleted else row.name
    if not ledger.read_of_model(session.connection(), name):
        return None
    return Refusal(
        "model_kept",
        "A registered model that the audit speaks of keeps its name, and stays. Received: a change of "
        f"'{name}'. Make a new one.",
    )


def judge_deletion(session: Session, row: SqlModelVersion) -> Refusal | None:
    """A version that was decided on stays."""
    history = ledger.read_of_model(session.connection(), row.name)
    number = str(row.version)
    if not any(
        e.event.action in DECISIONS and number in (e.event.version, e.event.champion) for e in history
    ):
        return None
    return Refusal(
        "decided_version_kept",
        f"A version that was decided on stays. Received: the deletion of {row.name}/{row.version}. "
        "Leave it as it is.",
    )


def judge_experiment(session: Session, row: SqlExperiment) -> Refusal | None:
    """A new experiment keeps its artifacts in a place of its own."""
    if row not in session.new or not row.artifact_location:
        return None
    return judge_artifact(session.connection(), "PUT", row.artifact_location)


def judge_part_of_run(session: Session, row: Any) -> Refusal | None:
    """Numbers, parameters and tags of a run behind a version stay as they were when it ended."""
    run = session.get(SqlRun, row.run_uuid)
    if run is None or not records.has_ended(run):
        return None
    return judge_sealed(session, row.run_uuid)


def judge_link(session: Session, row: SqlInput) -> Refusal | None:
    """What a run behind a version took and made stays as it was when the run ended."""
    for run in filter(None, (session.get(SqlRun, end) for end in (row.source_id, row.destination_id))):
        if records.has_ended(run) and (refusal := judge_sealed(session, run.run_uuid)):
            return refusal
    return None


def judge_logged_model(session: Session, row: Any) -> Refusal | None:
    """The logged model behind a version stays."""
    if isinstance(row, SqlLoggedModel) and row in session.new:
        return None
    return judge_sealed(session, row.model_id)


def judge_sealed(session: Session, identifier: str) -> Refusal | None:
    """What a registered version comes from stays as it is."""
    return SEALED if records.is_sealed(session.connection(), [identifier]) else None


def withdraw(session: Session, row: object) -> None:
    """Takes a row out of a flush: what is written in its place is written by the decision."""
    if row in session.new:
        session.expunge(row)
    else:
        session.expire(row)
