"""The model registry of MLflow: a version with its evidence, found again rather than doubled."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tumorflow.errors import ParameterError, UnavailableError
from tumorflow.tracker import ModelRegistration, RegisteredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

FINGERPRINT_TAG = "tumorflow.fingerprint"
CHAMPION = "champion"
MODEL_FILE = "model.keras"
REQUIREMENTS = ("keras", "tensorflow-cpu", "numpy")


def register(client: "MlflowClient", run_id: str, registration: ModelRegistration) -> RegisteredVersion:
    """Returns the version that holds this model; registers it unless an earlier try has done so.

    An alias that the registration does not ask for is never touched.
    """
    kept = find_version(client, registration)
    if kept is None:
        create_version(client, run_id, registration)
        kept = settle_versions(client, registration)
    for key, value in registration.tags.items():
        client.set_model_version_tag(registration.name, kept.version, key, value)
    if registration.alias:
        client.set_registered_model_alias(registration.name, registration.alias, kept.version)
    return describe_version(client, registration.name, str(kept.version))


def describe_version(client: "MlflowClient", name: str, number: str) -> RegisteredVersion:
    """Returns a version as it is now, with the aliases it has now."""
    current = client.get_model_version(name, number)
    return RegisteredVersion(
        name=name,
        version=str(current.version),
        aliases=tuple(sorted(current.aliases)),
        run_id=str(current.run_id),
        tags=dict(current.tags),
    )


def find_champion(client: "MlflowClient", name: str) -> RegisteredVersion | None:
    """Returns the version of a registered model that has the alias `champion`; None: there is none."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        # MLflow's words for a model that is not there, and for an alias that is not
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return describe_version(client, name, str(found.version))


def fetch(
    client: "MlflowClient", name: str, number: str, folder: Path, files: Sequence[str]
) -> RegisteredVersion:
    """Returns a version, after writing those of `files` that it has into `folder`, under their names.

    Nothing is loaded: MLflow's own loader would unpickle what it finds beside the Keras file.

    Args:
        client: of the registry.
        name: of the registered model.
        number: of its version.
        folder: an existing folder.
        files: `model.keras`, and paths of evidence in the run that made the version.

    Raises:
        ParameterError: there is no such version.
        UnavailableError: a file that it has cannot be had.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = describe_version(client, name, number)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise ParameterError(
            f"A model version is one of the registry's. Received: {name}/{number}, which is not there. "
            "Look its number up in MLflow."
        ) from error
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar a file says nothing
    model = client.get_model_version_download_uri(name, number)
    for file in files:
        source = f"{model}/data/{file}" if file == MODEL_FILE else f"runs:/{found.run_id}/{file}"
        try:
            _download(source, folder / file)
        except OSError as error:
            raise UnavailableError(
                "The files of a model version can be fetched from MLflow's artifact store. Received: "
                f"{type(error).__name__} for '{file}' of {name}/{number}. Check the store and your access."
            ) from error
    return found


def _download(source: str, target: Path) -> None:
    """Writes the file at an artifact address to `target`; nothing where there is none."""
    from mlflow.artifacts import download_artifacts, list_artifacts

    above, _, name = source.rpartition("/")
    if name not in {PurePosixPath(entry.path).name for entry in list_artifacts(artifact_uri=above)}:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tumorflow-download-") as aside:
        shutil.move(download_artifacts(artifact_uri=source, dst_path=aside), target)


def look_up_version(name: str, number: str, run_id: str) -> RegisteredVersion | None:
    """Returns a version as the registry knows it now; None where it is gone, or is another run's."""
    from mlflow.exceptions import MlflowException

    from tumorflow.tracking.connection import connect

    try:
        found = describe_version(connect(), name, number)
    except MlflowException:
        return None
    return found if found.run_id == run_id else None


def find_versions(client: "MlflowClient", registration: ModelRegistration) -> "list[ModelVersion]":
    """Returns the versions with this fingerprint, the first one first."""
    found = client.search_model_versions(
        f"name = '{registration.name}' and tag.`{FINGERPRINT_TAG}` = '{registration.fingerprint}'"
    )
    return sorted(found, key=lambda version: int(version.version))


def find_version(client: "MlflowClient", registration: ModelRegistration) -> "ModelVersion | None":
    """Returns the version with this fingerprint, if an earlier try registered it."""
    return next(iter(find_versions(client, registration)), None)


def settle_versions(client: "MlflowClient", registration: ModelRegistration) -> "ModelVersion":
    """Returns the one version with this fingerprint that stays: the first.

    A request whose answer was lost is sent again by MLflow's client, and has then made two.
    """
    first, *twins = find_versions(client, registration)
    for twin in twins:
        client.delete_model_version(registration.name, twin.version)
    return first


def create_version(client: "MlflowClient", run_id: str, registration: ModelRegistration) -> None:
    """Registers a new version: the Keras model with signature, input example and evidence."""
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=0)  # before MLflow imports TensorFlow by itself, noisily
    keras.utils.disable_interactive_logging()  # MLflow tries the input example, with a bar of its own
    import mlflow
    import mlflow.tensorflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import infer_signature

    for name, folder in registration.evidence.items():
        client.log_artifacts(run_id, str(folder), artifact_path=name)
    signature = infer_signature(registration.input_example, registration.output_example)
    with mlflow.start_run(run_id=run_id):
        logged = mlflow.tensorflow.log_model(
            keras.models.load_model(registration.keras_model, compile=False),
            name="model",
            signature=signature,
            input_example=registration.input_example,
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        )
    try:
        client.create_registered_model(registration.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.create_model_version(
        registration.name,
        source=logged.model_uri,
        run_id=run_id,
        model_id=logged.model_id,
        tags={FINGERPRINT_TAG: registration.fingerprint},
        description=registration.description,
    )
