"""Whether the audit, its copies and the registry say the same. Pure functions."""

import json
from collections.abc import Mapping, Sequence

from tumorflow.review.audit import Entry, champions


def compare_copies(entries: Sequence[Entry], copies: Mapping[int, bytes]) -> list[str]:
    """Returns a sentence for each copy that is not as the audit has the entry, or is missing among them.

    So an audit shows that was cut at its end, or written anew as a whole.

    Args:
        entries: of the audit.
        copies: sequence → content of the copy, as JSON.
    """
    kept = {entry.sequence: entry for entry in entries}
    faults = []
    for sequence in range(1, max(copies, default=0) + 1):
        if sequence not in copies:
            faults.append(f"Entry {sequence} has no exported copy, though a later one has.")
        elif sequence not in kept:
            faults.append(f"Entry {sequence} was exported, and is not in the audit any more.")
        elif _parse(copies[sequence]) != kept[sequence].as_json():
            faults.append(f"Entry {sequence} is not as it was exported.")
    return faults


def _parse(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


def compare_champions(entries: Sequence[Entry], registry: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each model whose champion is not the one that was decided on last.

    Args:
        entries: of the audit.
        registry: model → version with the alias `champion`, as it is.
    """
    decided = champions(entries)
    return [
        f"The champion of '{model}' is {_named(registry.get(model, ''))} in the registry, and "
        f"{_named(decided.get(model, ''))} by the audit."
        for model in sorted({*decided, *registry})
        if registry.get(model, "") != decided.get(model, "")
    ]


def compare_evidence(entries: Sequence[Entry], registry: Mapping[tuple[str, str], str]) -> list[str]:
    """Returns a sentence for each version whose evidence hash is not the one that was registered.

    Args:
        entries: of the audit.
        registry: (model, version) → the version's tag; empty: it has none.
    """
    registered = {
        (entry.event.model, entry.event.version): entry.event.evidence_hash
        for entry in entries
        if entry.event.action == "registered"
    }
    return [
        f"Version {version} of '{model}' has evidence {_short(found)} in the registry, and was registered "
        f"with {_short(registered.get((model, version), ''))}."
        for (model, version), found in sorted(registry.items())
        if found != registered.get((model, version), "")
    ]


def _named(version: str) -> str:
    return f"version {version}" if version else "none"


def _short(evidence_hash: str) -> str:
    return evidence_hash[:12] or "none"
