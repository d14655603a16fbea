"""What a person sees of a local run: steps and progress, drawn from the lines that the steps print."""

import io
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TextIO

from tumorflow.chain import ALL_STEPS

STEP_LINE = re.compile(r"^\s*step (?P<name>\w+): (?P<event>started|finished|failed)(?: in)? ?(?P<detail>.*)$")
SUMMARY_LINE = re.compile(r"^\s*summary written to (?P<path>.*)$")
PROGRESS_LINE = re.compile(r"^\s*(?P<what>\S.*): (?P<done>\d+)/(?P<total>\d+) (?P<unit>\w+)\s*$")
NOTE_LINE = re.compile(r"^\s*note: (?P<text>.*)$")

SHOWN = {step.name for step in ALL_STEPS}
"""What is worth a line each time; the run's own book-keeping is shown where it fails."""


@dataclass
class Progress:
    """What the lines have told so far."""

    started: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failure: dict[str, Any] | None = None
    """Of the step that failed first."""
    summary: str | None = None
    """The file that the run's summary is in."""

    def unfinished(self) -> list[str]:
        """Returns the steps that started and told neither an end nor a reason, the first one first."""
        open_ones = Counter(self.started) - Counter(self.finished)
        return [name for name in dict.fromkeys(self.started) if open_ones[name]]


class Console(io.TextIOBase):
    """A stream that keeps every line in a log, and shows the ones that matter.

    `hidden` is a text that neither may hold.
    """

    def __init__(self, log: TextIO, screen: TextIO, hidden: str = "") -> None:
        super().__init__()
        self.progress = Progress()
        self._log = log
        self._hidden = hidden
        self._screen = screen
        self._pending = ""
        self._bar: Any = None
        self._what = ""

    def writable(self) -> bool:
        """Returns True: it is for writing."""
        return True

    def write(self, text: str) -> int:
        """Returns the number of characters taken."""
        self._pending += text
        *lines, self._pending = self._pending.split("\n")
        for line in lines:
            shown = line.replace(self._hidden, "SOURCE") if self._hidden else line
            self._log.write(f"{shown}\n")
            self._show(shown)
        return len(text)

    def flush(self) -> None:
        """Writes the log through."""
        self._log.flush()

    def _show(self, line: str) -> None:
        if step := STEP_LINE.match(line):
            self._show_step(**step.groupdict())
        elif progress := PROGRESS_LINE.match(line):
            self._show_progress(
                progress["what"], int(progress["done"]), int(progress["total"]), progress["unit"]
            )
        elif note := NOTE_LINE.match(line):
            self._print(f"  {note['text']}")
        elif summary := SUMMARY_LINE.match(line):
            self.progress.summary = summary["path"]

    def _show_step(self, name: str, event: str, detail: str) -> None:
        self._close_bar()
        seen = name in SHOWN
        if event == "started":
            self.progress.started.append(name)
            if seen:
                self._print(f"{name} …")
        elif event == "finished":
            self.progress.finished.append(name)
            if seen:
                self._print(f"{name}: done in {detail}")
        else:
            self.progress.finished.append(name)
            self.progress.failure = self.progress.failure or json.loads(detail)
            self._print(f"{name}: failed")

    def _show_progress(self, what: str, done: int, total: int, unit: str) -> None:
        if not self._screen.isatty():
            self._print(f"  {what}: {done}/{total} {unit}")
            return
        from tqdm import tqdm

        if self._bar is None or self._what != what:
            self._close_bar()
            self._bar = tqdm(
                total=total, desc=f"  {what}", unit=f" {unit}", leave=False, file=self._screen, mininterval=0
            )
            self._what = what
        self._bar.n = done
        self._bar.refresh()
        if done >= total:
            self._close_bar()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print(self, line: str) -> None:
        print(line, file=self._screen, flush=True)

    def close(self) -> None:
        """Ends the bar that may be open."""
        self._close_bar()
        super().close()


def screen() -> TextIO:
    """Returns the stream that a person reads."""
    return sys.stdout
