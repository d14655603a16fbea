"""What MLflow's tables say about a version and the runs behind it, read inside the transaction that asks."""

from collections.abc import Collection

from mlflow.entities import RunStatus
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModelAlias,
)
from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
from sqlalchemy import Connection, func, or_, select

from tumorflow.evidence import HASH_TAG
from tumorflow.review.policy import CHAMPION
from tumorflow.tracking.jobs import JOB_TAG, SUBMITTED_BY_TAG


def read_champion(connection: Connection, workspace: str, model: str) -> str:
    """Returns the version that has the alias `champion`; an empty string: none has."""
    alias = SqlRegisteredModelAlias
    found = connection.scalar(
        select(alias.version).where(
            alias.workspace == workspace, alias.name == model, alias.alias == CHAMPION
        )
    )
    return "" if found is None else str(found)


def read_tags(connection: Connection, workspace: str, model: str, version: int) -> dict[str, str]:
    """Returns the tags of a version."""
    tag = SqlModelVersionTag
    rows = connection.execute(
        select(tag.key, tag.value).where(
            tag.workspace == workspace, tag.name == model, tag.version == version
        )
    )
    return {key: value or "" for key, value in rows}


def next_number(connection: Connection, workspace: str, model: str) -> int:
    """Returns the number of a registered model's next version."""
    version = SqlModelVersion
    last = connection.scalar(
        select(func.max(version.version)).where(version.workspace == workspace, version.name == model)
    )
    return (last or 0) + 1


def read_creators(connection: Connection, version: SqlModelVersion) -> frozenset[str]:
    """Returns the accounts that made a version, its run, or another run of the same pipeline run.

    The server itself writes them into `user_id`. Empty: the version or its run has none.
    """
    run = connection.execute(select(SqlRun.user_id).where(SqlRun.run_uuid == version.run_id)).first()
    if run is None or not run.user_id or not version.user_id:
        return frozenset()
    job = (
        select(SqlTag.value).where(SqlTag.run_uuid == version.run_id, SqlTag.key == JOB_TAG).scalar_subquery()
    )
    of_the_job = select(SqlTag.run_uuid).where(SqlTag.key == JOB_TAG, SqlTag.value == job)
    makers = connection.scalars(select(SqlRun.user_id).where(SqlRun.run_uuid.in_(of_the_job)))
    submitters = connection.scalars(
        select(SqlTag.value).where(SqlTag.key == SUBMITTED_BY_TAG, SqlTag.run_uuid.in_(of_the_job))
    )
    return frozenset({version.user_id, run.user_id, *filter(None, makers), *filter(None, submitters)})


def read_run_location(connection: Connection, run_id: str | None) -> str:
    """Returns the address of a run's artifacts; an empty string: there is no such run."""
    return connection.scalar(select(SqlRun.artifact_uri).where(SqlRun.run_uuid == run_id)) or ""


def is_sealed(connection: Connection, ids: Collection[str]) -> bool:
    """Returns whether a version comes from one of these runs or logged models.

    Only versions that were registered with evidence count, and only those that were not deleted.
    """
    version, tag = SqlModelVersion, SqlModelVersionTag
    found = connection.execute(
        select(version.version)
        .join(
            tag,
            (tag.workspace == version.workspace)
            & (tag.name == version.name)
            & (tag.version == version.version),
        )
        .where(
            tag.key == HASH_TAG,
            version.current_stage != STAGE_DELETED_INTERNAL,
            or_(version.run_id.in_(ids), version.source.in_([f"models:/{each}" for each in ids])),
        )
        .limit(1)
    )
    return found.first() is not None


def has_ended(run: SqlRun) -> bool:
    """Returns whether a run has come to its end."""
    return bool(run.status) and RunStatus.is_terminated(RunStatus.from_string(run.status))
