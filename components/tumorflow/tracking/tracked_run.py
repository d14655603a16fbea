"""One run in MLflow, as a step sees it."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tumorflow.tracker import ModelRegistration, RegisteredVersion
from tumorflow.tracking.connection import explained

if TYPE_CHECKING:
    from mlflow import MlflowClient


class MlflowTracker:
    """A run in MLflow, written through the client: no global active run."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self.client = client
        self.run_id = run_id

    def log_params(self, params: Mapping[str, str | int | float | bool]) -> None:
        """Records settings or facts that do not change during the run."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:6000]) for key, value in params.items()]
        with explained():
            self.client.log_batch(self.run_id, params=entries)

    def log_metrics(self, metrics: Mapping[str, float], epoch: int | None = None) -> None:
        """Records numbers, of one epoch where it is given."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(key, float(value), now, epoch or 0) for key, value in metrics.items()]
        with explained():
            for start in range(0, len(entries), 500):  # MLflow takes 1,000 a request
                self.client.log_batch(self.run_id, metrics=entries[start : start + 500])

    def log_folder(self, folder: Path, name: str) -> None:
        """Keeps a copy of a folder's files under `name`."""
        with explained():
            self.client.log_artifacts(self.run_id, str(folder), artifact_path=name)

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Records which data went into the run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:36],  # the column's width
            source_type="tumorflow",
            source=source,
            profile=f'{{"digest": "{digest}"}}',
        )
        tagged = DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
        with explained():
            self.client.log_inputs(self.run_id, [tagged])

    def register_model(self, registration: ModelRegistration) -> RegisteredVersion:
        """Returns the version that holds this model; a repeated call returns the same one."""
        from tumorflow.tracking.registry import register

        with explained():
            return register(self.client, self.run_id, registration)

    def find_champion(self, name: str) -> RegisteredVersion | None:
        """Returns the version that a reviewer made the model's champion; None: there is none."""
        from tumorflow.tracking.registry import find_champion

        with explained():
            return find_champion(self.client, name)

    def fetch_version(self, name: str, version: str, folder: Path, files: Sequence[str]) -> RegisteredVersion:
        """Returns a version, after writing those of `files` that it has into `folder`, under their names."""
        from tumorflow.tracking.registry import fetch

        with explained():
            return fetch(self.client, name, version, folder, files)
