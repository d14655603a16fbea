"""A reviewer's decision: judged, then written as alias, tags and audit entry in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModelAlias,
)
from sqlalchemy import Connection, Table, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tumorflow.review import ledger, records
from tumorflow.review.audit import DECISIONS, Entry, Event
from tumorflow.review.evidence_check import Examination, examine
from tumorflow.review.policy import (
    AT,
    BY,
    CHAMPION,
    REASON,
    REASON_BY,
    STATUS,
    WHY,
    Promotion,
    Refusal,
    judge_act,
    judge_promotion,
)

CANDIDATE = "candidate"


@dataclass(frozen=True)
class Act:
    """What a reviewer asks for."""

    kind: Literal["approved", "rejected", "rolled_back"]
    actor: str
    roles: frozenset[str]
    version: SqlModelVersion
    reason: str


def decide(session: Session, act: Act, four_eyes: bool) -> Refusal | None:
    """Returns why a decision is not made; None: it is written, and holds as soon as the session commits."""
    refusal = judge_act(act.actor, act.roles, act.reason)
    if refusal:
        return refusal  # before anything costly is done for whoever may not ask
    connection = session.connection()
    model, number = act.version.name, str(act.version.version)
    history = ledger.read_of_model(connection, model)
    registered_hash = find_registered_hash(history, number)
    # files are read before the lock is taken, which keeps other decisions waiting
    evidence = Examination("", ())
    if act.kind != "rejected" and registered_hash:
        location = records.read_run_location(connection, act.version.run_id)
        evidence = examine(location, act.version.storage_location or "", registered_hash)
    ledger.lock(connection)
    history = ledger.read_of_model(connection, model)
    if is_repeated(history, act):
        return None  # the answer was lost, and the client asked again
    champion = records.read_champion(connection, act.version.workspace, model)
    event = Event(
        action=act.kind,
        actor=act.actor,
        model=model,
        version=number,
        reason=act.reason,
        evidence_hash=registered_hash,
        previous_champion=champion,
        champion=number,
    )
    if act.kind == "rejected":
        event = replace(event, champion="" if champion == number else champion)
    else:
        refusal = judge_promotion(
            Promotion(
                act=act.kind,
                actor=act.actor,
                roles=act.roles,
                reason=act.reason,
                model=model,
                version=number,
                champion=champion,
                former_champions=frozenset(
                    entry.event.champion
                    for entry in history
                    if entry.event.action in DECISIONS and entry.event.champion
                ),
                four_eyes=four_eyes,
                creators=records.read_creators(connection, act.version),
                registered_hash=registered_hash,
                gate=evidence.gate,
                differences=evidence.differences,
            )
        )
        if refusal:
            return refusal
    write(connection, act.version, ledger.append(connection, event))
    return None


def find_registered_hash(history: list[Entry], number: str) -> str:
    """Returns the evidence hash that a version was registered with, as the audit has it; or nothing."""
    hashes = [
        entry.event.evidence_hash
        for entry in history
        if entry.event.action == "registered" and entry.event.version == number
    ]
    return hashes[-1] if hashes else ""


def is_repeated(history: list[Entry], act: Act) -> bool:
    """Returns whether the last decision on the model is this very one."""
    decided = [entry.event for entry in history if entry.event.action in DECISIONS]
    if not decided:
        return False
    last = decided[-1]
    asked = (act.kind, act.actor, str(act.version.version), act.reason)
    return (last.action, last.actor, last.version, last.reason) == asked


def write(connection: Connection, version: SqlModelVersion, entry: Entry) -> None:
    """Writes what a decision changes in the registry: the alias, and tags that tell of it."""
    event = entry.event
    aliases, tags = SqlRegisteredModelAlias.__table__, SqlModelVersionTag.__table__
    of_model = {"workspace": version.workspace, "name": version.name}
    if event.champion == event.version:
        upsert(connection, aliases, {**of_model, "alias": CHAMPION}, {"version": version.version})
    elif not event.champion:
        connection.execute(
            delete(aliases).where(
                aliases.c.workspace == version.workspace,
                aliases.c.name == version.name,
                aliases.c.alias == CHAMPION,
            )
        )
    connection.execute(  # decided on: no candidate any longer
        delete(aliases).where(
            aliases.c.workspace == version.workspace,
            aliases.c.name == version.name,
            aliases.c.alias == CANDIDATE,
            aliases.c.version == version.version,
        )
    )
    connection.execute(
        delete(tags).where(
            tags.c.workspace == version.workspace,
            tags.c.name == version.name,
            tags.c.version == version.version,
            tags.c.key.in_((REASON, REASON_BY)),
        )
    )
    status = "rejected" if event.action == "rejected" else CHAMPION
    told = {STATUS: status, BY: event.actor, AT: entry.at, WHY: event.reason}
    for key, value in told.items():
        upsert(connection, tags, {**of_model, "version": version.version, "key": key}, {"value": value})
    if event.previous_champion not in ("", event.version, event.champion):
        former = {**of_model, "version": int(event.previous_champion), "key": STATUS}
        upsert(connection, tags, former, {"value": "former champion"})


def upsert(
    connection: Connection, table: Table, key: Mapping[str, object], value: Mapping[str, object]
) -> None:
    """Writes one row, whether it is there already or not."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = dialect.insert(table).values(**key, **value)
    connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=dict(value)))
