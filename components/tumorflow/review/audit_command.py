"""`tumorflow audit`: who decided what, when and why; and whether that record is whole."""

import argparse
import json
import os
import re
from collections.abc import Sequence

from tumorflow.errors import DataError, UnavailableError
from tumorflow.review.agreement import compare_champions, compare_copies, compare_evidence
from tumorflow.review.audit import Entry, find_faults

SUMMARY = "show who decided what in the registry, or verify that this record is whole"
EXAMPLE = "tumorflow audit show --model tumour-classifier\n  tumorflow audit verify"
_HEADINGS = ("#", "when (UTC)", "who", "what", "model/version", "champion", "evidence", "reason")
_READINGS = 5  # a decision may come between the audit and the registry
_COPY = re.compile(r"(\d{8,})\.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's two ways."""
    ways = parser.add_subparsers(title="commands", required=True, metavar="show|verify")
    show = ways.add_parser("show", help="print the entries")
    show.add_argument("--model", metavar="NAME", help="only on this registered model (default: all)")
    show.add_argument("--after", type=int, default=0, metavar="N", help="only entries above number N")
    show.add_argument("--json", action="store_true", help="one JSON object a line, in full")
    show.set_defaults(audit=_show)
    verify = ways.add_parser(
        "verify", help="find changes, gaps and reorders, and what the registry or the copies say otherwise"
    )
    verify.add_argument(
        "--export",
        metavar="FOLDER_OR_URI",
        help="artifact store with the copies (default: MLFLOW_ARTIFACTS_DESTINATION, else the server's)",
    )
    verify.set_defaults(audit=_verify)


def run(given: argparse.Namespace) -> int:
    """Returns 0: shown, or whole.

    Raises:
        DataError: the audit is not whole.
        UnavailableError: there is no audit, or no answer.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    code: int = given.audit(given)
    return code


def _show(given: argparse.Namespace) -> int:
    from tumorflow.review.audit_source import read_entries

    entries = [entry for entry in read_entries(given.after) if given.model in (None, entry.event.model)]
    lines = [json.dumps(entry.as_json()) for entry in entries] if given.json else describe(entries)
    if lines:
        print("\n".join(lines))
    return 0


def describe(entries: Sequence[Entry]) -> list[str]:
    """Returns a table of the entries, a line each, under a heading; nothing in it steers a terminal."""
    rows = [_HEADINGS, *(_row(entry) for entry in entries)]
    printable = [["".join(c if c.isprintable() else "�" for c in cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*printable, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in printable
    ]


def _row(entry: Entry) -> tuple[str, ...]:
    event = entry.event
    changed = event.previous_champion != event.champion
    return (
        str(entry.sequence),
        entry.at[:19].replace("T", " "),
        event.actor,
        event.action,
        f"{event.model}/{event.version}" if event.model else "",
        f"{event.previous_champion or 'none'} → {event.champion or 'none'}" if changed else "",
        event.evidence_hash[:12],
        event.reason,
    )


def _verify(given: argparse.Namespace) -> int:
    from tumorflow.review.audit_source import read_champions, read_entries, read_evidence_hashes
    from tumorflow.tracking.connection import connect

    copies = _copies(given.export)  # first: a copy is made after its entry
    client = connect()
    for _ in range(_READINGS):
        entries = read_entries()
        champions, hashes = read_champions(client), read_evidence_hashes(client)
        if len(read_entries()) == len(entries):
            break
    faults = (
        find_faults(entries)
        + compare_copies(entries, copies)
        + compare_champions(entries, champions)
        + compare_evidence(entries, hashes)
    )
    if faults:
        print("\n".join(faults))
        raise DataError(
            "An audit is whole, and the registry and the copies agree with it. Received: "
            f"{_counted(faults, 'fault')}, named above. "
            "Keep the database and the copies as they are, and find out who could write to them."
        )
    compared = (
        f"{len(copies)} exported copies agree" if copies else "there were no exported copies to compare with"
    )
    print(f"audit: whole; {_counted(entries, 'entry', 'entries')}, the registry agrees, {compared}")
    return 0


def _copies(export: str | None) -> dict[int, bytes]:
    """Returns the copies by sequence; none, saying so, where the usual store is away and none was named."""
    from tumorflow.review.audit_source import read_copies
    from tumorflow.tracking.connection import tracking_uri

    usual = "mlflow-artifacts:" if tracking_uri().startswith("http") else ""
    destination = export or os.environ.get("MLFLOW_ARTIFACTS_DESTINATION") or usual
    if not destination:
        return {}
    try:
        found = read_copies(destination)
    except UnavailableError as error:
        if export:
            raise
        print(f"audit: {error}")
        return {}
    named = ((_COPY.fullmatch(name), content) for name, content in found.items())
    return {int(match[1]): content for match, content in named if match}


def _counted(things: Sequence[object], one: str, many: str = "") -> str:
    return f"{len(things)} {one if len(things) == 1 else many or one + 's'}"
