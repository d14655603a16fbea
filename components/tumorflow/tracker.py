"""What a step may tell the experiment tracker, without knowing which one it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """One run of one step, as the tracker sees it."""

    def log_params(self, params: Mapping[str, str | int | float | bool]) -> None:
        """Records settings or facts that do not change during the run."""

    def log_metrics(self, metrics: Mapping[str, float], epoch: int | None = None) -> None:
        """Records numbers, of one epoch where it is given."""

    def log_folder(self, folder: Path, name: str) -> None:
        """Keeps a copy of a folder's files under `name`."""

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Records which data went into the run."""


class Untracked:
    """A tracker that keeps nothing: for tests and dry runs."""

    def log_params(self, params: Mapping[str, str | int | float | bool]) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, float], epoch: int | None = None) -> None:
        pass

    def log_folder(self, folder: Path, name: str) -> None:
        pass

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        pass
