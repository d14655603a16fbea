"""A folder whose link `current` points at the champion's files, as the audit has it.

    FOLDER/current        → versions/<version>-<hash>; absent while there is no champion
    FOLDER/versions/…     the last three champions: manifest.json, preprocessing.json, release/…, version.json
    FOLDER/handled.json   the last entry of the audit that was handled

A reader resolves `current` once and then reads below what it found: so it sees one version, whole, also while
another takes its place. Everything is written aside and renamed: whenever this process dies, `current` is
whole.
"""

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from tumorflow.champion import release
from tumorflow.errors import DataError, UsageError
from tumorflow.files import read_json, write_json, write_text
from tumorflow.review import audit
from tumorflow.review.audit import DECISIONS, Entry

CURRENT, VERSIONS, HANDLED = "current", "versions", "handled.json"
PARTIAL = ".partial"
KEPT_VERSIONS = 3


@dataclass(frozen=True)
class Handled:
    """How far a folder has followed the audit, and what it holds."""

    sequence: int = 0
    entry_hash: str = audit.FIRST
    version: str = ""
    evidence_hash: str = ""


def resolve_current(folder: Path) -> Path | None:
    """Returns the champion's own folder, which stays as it is; None: there is no champion."""
    try:
        return (folder / CURRENT).resolve(strict=True)
    except FileNotFoundError:
        return None


def advance(handled: Handled, entries: Sequence[Entry], model: str) -> Handled:
    """Returns how far a folder is when it has handled these entries.

    Args:
        handled: how far it is.
        entries: of the audit, from the one handled last.
        model: whose champion it follows.

    Raises:
        DataError: the entries do not continue those that were handled.
    """
    known, new = entries[: bool(handled.sequence)], entries[bool(handled.sequence) :]
    faults = audit.find_faults(new, after=(handled.sequence, handled.entry_hash))
    if handled.sequence and [(entry.sequence, entry.entry_hash) for entry in known] != [
        (handled.sequence, handled.entry_hash)
    ]:
        faults.insert(0, f"Entry {handled.sequence} is not the one that was handled.")
    if faults:
        raise DataError(
            f"A champion is followed by an audit that only grows. Received: {faults[0]} The champion stays. "
            "Run `tumorflow audit verify`; to follow another registry, take another folder."
        )
    for entry in new:
        event = entry.event
        version, evidence_hash = handled.version, handled.evidence_hash
        if event.model == model and event.action in DECISIONS and event.champion != handled.version:
            version = event.champion
            evidence_hash = event.evidence_hash if version == event.version else ""
        handled = Handled(entry.sequence, entry.entry_hash, version, evidence_hash)
    return handled


@dataclass
class Follower:
    """Keeps one folder at the champion of one registered model."""

    model: str
    folder: Path
    read_entries: Callable[[int], Sequence[Entry]]
    """Returns the audit's entries above a sequence."""
    read_champion: Callable[[str], str]
    """Returns the version that has the alias `champion`; empty: none."""
    fetch: Callable[[str, str, str, Path], None] = release.fetch_release
    tell: Callable[[str], None] = print
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def catch_up(self) -> Handled:
        """Returns how far the folder is, after bringing it to the champion of now.

        Raises:
            DataError: the audit, the registry or the evidence is not what was decided on; the former stays.
            UnavailableError: MLflow cannot be reached; the former stays.
        """
        with self._lock:
            before = self.read_handled()
            after = advance(before, self.read_entries(max(0, before.sequence - 1)), self.model)
            registered = self.read_champion(self.model)
            if registered != after.version:  # a decision may have come between both
                after = advance(before, self.read_entries(max(0, before.sequence - 1)), self.model)
            if registered != after.version:
                raise DataError(
                    "A champion in the registry is the one that was decided on. Received: "
                    f"{_named(self.model, registered)}, and by the audit "
                    f"{_named(self.model, after.version)}. The champion stays. Run `tumorflow audit verify`."
                )
            self.take(after)
            if after != before:
                write_json(self.folder / HANDLED, {"model": self.model, **asdict(after)})
            return after

    def read_handled(self) -> Handled:
        """Returns how far the folder is; at the beginning, where it has no record yet.

        Raises:
            SourceError: its record cannot be read.
            UsageError: the folder is another model's.
        """
        path = self.folder / HANDLED
        if not path.exists():
            return Handled()
        content = read_json(path)
        model = content.pop("model", "")
        if model != self.model:
            raise UsageError(
                f"A folder follows one model. Received: {self.model} for {self.folder}, which follows "
                f"{model}. Take another folder."
            )
        return Handled(**content)

    def take(self, champion: Handled) -> None:
        """Points `current` at a champion, whose files are fetched unless they are there and whole."""
        current = self.folder / CURRENT
        if not champion.version:
            if current.is_symlink():
                current.unlink()
                self.tell(f"champion: {self.model} has none any more; {CURRENT} is removed")
            return
        name = f"{champion.version}-{champion.evidence_hash[:12]}"
        target = self.folder / VERSIONS / name
        if not target.is_dir() or release.find_faults(target, champion.evidence_hash):
            self.bring(champion, target)
        link = f"{VERSIONS}/{name}"
        if not current.is_symlink() or os.readlink(current) != link:  # noqa: PTH115 - as it was written
            os.utime(target)  # says when it became the champion
            aside = self.folder / f".{CURRENT}{PARTIAL}"
            aside.unlink(missing_ok=True)
            aside.symlink_to(link)
            aside.replace(current)
            self.tell(
                f"champion: {_named(self.model, champion.version)}, evidence {champion.evidence_hash[:12]}"
            )
        self.prune(target)

    def bring(self, champion: Handled, target: Path) -> None:
        """Fetches a champion's files to their folder, whole."""
        aside = target.with_name(target.name + PARTIAL)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        self.fetch(self.model, champion.version, champion.evidence_hash, aside)
        release.refuse_faults(_named(self.model, champion.version), aside, champion.evidence_hash)
        write_text(
            aside / "version.json", release.describe(self.model, champion.version, champion.evidence_hash)
        )
        if target.exists():  # it was damaged
            damaged = target.with_name(target.name + ".damaged" + PARTIAL)
            shutil.rmtree(damaged, ignore_errors=True)
            target.replace(damaged)
        aside.replace(target)

    def prune(self, current: Path) -> None:
        """Removes what was left half-written, and all but the last champions."""
        folders = list((self.folder / VERSIONS).iterdir())
        whole = [folder for folder in folders if not folder.name.endswith(PARTIAL) and folder != current]
        latest = sorted(whole, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)
        kept = {current, *latest[: KEPT_VERSIONS - 1]}
        for folder in folders:
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        for file in self.folder.glob(f".*{PARTIAL}"):
            file.unlink()

    def alone(self) -> AbstractContextManager[IO[bytes]]:
        """Returns what holds the folder for this process, until it is closed or the process dies.

        Raises:
            UsageError: another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = (self.folder / ".lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise UsageError(
                f"One process follows into a folder. Received: {self.folder}, where another one does. "
                "Take another folder, or stop the other one."
            ) from error
        return file


def read_registered_champion(model: str) -> str:
    """Returns the version that has the alias `champion` in MLflow's registry; empty: none.

    Raises:
        UnavailableError: MLflow cannot be reached.
    """
    from tumorflow.tracking.connection import connect, explained
    from tumorflow.tracking.registry import find_champion

    client = connect()
    with explained():
        found = find_champion(client, model)
    return found.version if found else ""


def _named(model: str, version: str) -> str:
    return f"{model}/{version}" if version else f"no champion of {model}"
