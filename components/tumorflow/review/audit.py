"""The audit: entries that are chained by their hashes, so that a change, a gap or a reorder shows.

Each entry's hash is over its own content and the hash of the entry before it (as in Haber and Stornetta,
"How to time-stamp a digital document", 1991).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Action = Literal[
    "registered", "approved", "rejected", "rolled_back", "role_given", "role_taken", "password_set"
]
DECISIONS: tuple[Action, ...] = ("approved", "rejected", "rolled_back")
FIRST = "0" * 64
"""What stands for the hash of the entry before the first."""


@dataclass(frozen=True)
class Event:
    """What happened, who did it and why."""

    action: Action
    actor: str
    """Name of an account, as the server authenticated it."""
    model: str = ""
    version: str = ""
    reason: str = ""
    evidence_hash: str = ""
    previous_champion: str = ""
    """The model's champion before, a version number; empty: there was none."""
    champion: str = ""
    """The model's champion from then on."""


@dataclass(frozen=True)
class Entry:
    """An event in its place in the chain."""

    sequence: int
    """1, 2, 3, …"""
    at: str
    """When, in UTC: 2026-11-24T09:30:00.000Z."""
    event: Event
    previous_hash: str
    entry_hash: str

    def as_json(self) -> dict[str, Any]:
        """Returns the entry as one flat object."""
        return {"sequence": self.sequence, "at": self.at, **asdict(self.event)} | {
            "previous_hash": self.previous_hash,
            "entry_hash": self.entry_hash,
        }


def from_json(content: Mapping[str, Any]) -> Entry:
    """Returns the entry that `as_json` described; its hash is taken as it stands.

    Raises:
        KeyError: a field is missing.
    """
    event = Event(**{field.name: content[field.name] for field in fields(Event)})
    return Entry(
        int(content["sequence"]), content["at"], event, content["previous_hash"], content["entry_hash"]
    )


def chain(event: Event, at: str, previous: Entry | None) -> Entry:
    """Returns the entry that follows `previous`; None: the first one."""
    sequence = previous.sequence + 1 if previous else 1
    previous_hash = previous.entry_hash if previous else FIRST
    return Entry(sequence, at, event, previous_hash, hash_entry(sequence, at, event, previous_hash))


def hash_entry(sequence: int, at: str, event: Event, previous_hash: str) -> str:
    """Returns the SHA-256 of an entry's content and of the hash before it."""
    content = {"sequence": sequence, "at": at, **asdict(event), "previous_hash": previous_hash}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def find_faults(entries: Sequence[Entry], after: tuple[int, str] = (0, FIRST)) -> list[str]:
    """Returns a sentence for each break of the chain, in its order; an empty list: it is whole.

    Args:
        entries: of the audit.
        after: sequence and hash of the entry before the first of them.
    """
    faults = []
    expected, before = after[0] + 1, after[1]
    for entry in entries:
        if entry.sequence != expected:
            faults.append(f"Entry {expected} should come here. Received: entry {entry.sequence}.")
        elif entry.previous_hash != before:
            faults.append(f"Entry {entry.sequence} does not follow the entry before it.")
        if hash_entry(entry.sequence, entry.at, entry.event, entry.previous_hash) != entry.entry_hash:
            faults.append(f"Entry {entry.sequence} was changed after it was written.")
        expected, before = entry.sequence + 1, entry.entry_hash
    return faults


def champions(entries: Sequence[Entry]) -> dict[str, str]:
    """Returns, for each model that was decided on, the champion's version after the last decision."""
    return {entry.event.model: entry.event.champion for entry in entries if entry.event.action in DECISIONS}
