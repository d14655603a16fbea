"""What a step may tell the experiment tracker and the model registry, without knowing which ones they are."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tumorflow.errors import ParameterError, UnavailableError


@dataclass(frozen=True)
class ModelRegistration:
    """All that a registered model version carries."""

    name: str
    keras_model: Path
    input_example: npt.NDArray[np.float32]
    """(1, height, width, 3), 0–255."""
    output_example: npt.NDArray[np.float32]
    """(1, classes), probabilities."""
    evidence: Mapping[str, Path]
    """Name in the run's artifacts → folder: evaluation, TFLite files, decision."""
    tags: Mapping[str, str]
    fingerprint: str
    """Content hash of the model and its evidence: the same release is registered once."""
    alias: str = ""
    describe: Callable[[str, str], str] = lambda _experiment_id, _run_id: ""
    """From the ids of experiment and run to what a reviewer reads of the version, in Markdown."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version as the registry knows it."""

    name: str
    version: str
    aliases: tuple[str, ...] = field(default=())
    run_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """The version as NAME/VERSION."""
        return f"{self.name}/{self.version}"


def split_reference(reference: str) -> tuple[str, str]:
    """Returns name and version of NAME/VERSION.

    Raises:
        ParameterError: it reads otherwise.
    """
    found = re.fullmatch(r"([^/]+)/(\d+)", reference)
    if found is None:
        raise ParameterError(
            f"A model version reads NAME/VERSION. Received: '{reference}'. For example: tumorflow-ct/3"
        )
    return found[1], found[2]


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

    def register_model(self, registration: ModelRegistration) -> RegisteredVersion:
        """Returns the version that holds this model; a repeated call returns the same one."""

    def find_champion(self, name: str) -> RegisteredVersion | None:
        """Returns the version that a reviewer made the model's champion; None: there is none."""

    def fetch_version(self, name: str, version: str, folder: Path, files: Sequence[str]) -> RegisteredVersion:
        """Returns a version, after writing those of `files` that it has into `folder`, under their names.

        A file is `model.keras`, or the path of a piece of evidence as it was registered: `evidence/…`.

        Raises:
            ParameterError: there is no such version.
            UnavailableError: a file that it has cannot be had.
        """


class Untracked:
    """A tracker that keeps nothing: for tests and dry runs."""

    def log_params(self, params: Mapping[str, str | int | float | bool]) -> None:
        """Keeps nothing."""

    def log_metrics(self, metrics: Mapping[str, float], epoch: int | None = None) -> None:
        """Keeps nothing."""

    def log_folder(self, folder: Path, name: str) -> None:
        """Keeps nothing."""

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Keeps nothing."""

    def register_model(self, registration: ModelRegistration) -> RegisteredVersion:
        """Refuses: a version that nobody can find is none."""
        raise UnavailableError(
            f"A model version needs a registry. Received: no tracker for '{registration.name}'. "
            "Set MLFLOW_TRACKING_URI."
        )

    def find_champion(self, name: str) -> RegisteredVersion | None:
        """Finds none."""

    def fetch_version(
        self,
        name: str,
        version: str,
        folder: Path,  # noqa: ARG002 - nothing is written
        files: Sequence[str],  # noqa: ARG002
    ) -> RegisteredVersion:
        """Refuses: what was never kept cannot be had."""
        raise UnavailableError(
            f"A model version comes from a registry. Received: no tracker for '{name}/{version}'. "
            "Set MLFLOW_TRACKING_URI."
        )
