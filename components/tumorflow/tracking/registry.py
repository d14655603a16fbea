"""The model registry of MLflow: a version with its evidence, found again rather than doubled."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tumorflow import evidence
from tumorflow.errors import ParameterError, UnavailableError
from tumorflow.tracker import ModelRegistration, RegisteredVersion
from tumorflow.tracking.connection import without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

FINGERPRINT_TAG = "tumorflow.fingerprint"
CHAMPION = "champion"
MODEL_FILE = "model.keras"
REQUIREMENTS = ("keras", "tensorflow-cpu", "numpy")


def register(client: "MlflowClient", run_id: str, registration: ModelRegistration) -> RegisteredVersion:
    """Returns the version that holds this model; registers it unless an earlier try has done so.

    A version that is found again stays as it is, and an alias that the registration does not ask for is never
    touched.
    """
    kept = find_version(client, registration)
    if kept is None:
        create_version(client, run_id, registration)
        kept = settle_versions(client, registration)
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
        # to be asked for an alias of a model that is not there, a server with accounts takes for forbidden
        number = client.get_registered_model(name).aliases.get(CHAMPION)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return describe_version(client, name, str(number)) if number else None


def look_up_champion(name: str) -> str:
    """Returns the champion of a registered model as NAME/VERSION; an empty string: there is none.

    Raises:
        UnavailableError: the server cannot be reached or refuses.
    """
    from tumorflow.tracking.connection import connect, explained, tracking_uri

    file = tracking_uri().removeprefix("sqlite:///")
    if file != tracking_uri() and not Path(file).exists():
        return ""  # nothing was ever registered; to import MLflow takes longer than some steps
    client = connect()
    with explained():
        found = find_champion(client, name)
    return found.reference if found else ""


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
    """Registers a new version: evidence, Keras model and manifest first, then the version with all its tags.

    A server that guards the registry takes no change of them after that.

    Raises:
        UnavailableError: the artifact store does not give back what it was given.
    """
    from mlflow.exceptions import MlflowException

    for name, folder in registration.evidence.items():
        client.log_artifacts(run_id, str(folder), artifact_path=name)
    model = log_model(client, run_id, registration)
    hashes = read_back(client, run_id, registration, model)
    manifest = evidence.describe_files(hashes)
    client.log_text(run_id, manifest.decode(), evidence.MANIFEST)
    try:
        client.create_registered_model(registration.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.create_model_version(
        registration.name,
        source=model.model_uri,
        run_id=run_id,
        model_id=model.model_id,
        tags={
            **registration.tags,
            FINGERPRINT_TAG: registration.fingerprint,
            evidence.HASH_TAG: evidence.hash_manifest(manifest),
        },
        description=registration.describe(client.get_run(run_id).info.experiment_id, run_id),
    )


def log_model(client: "MlflowClient", run_id: str, registration: ModelRegistration) -> "LoggedModel":
    """Returns the Keras model as MLflow keeps it, with signature and input example."""
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=0)  # before MLflow imports TensorFlow by itself, noisily
    keras.utils.disable_interactive_logging()  # MLflow tries the input example, with a bar of its own
    import mlflow.tensorflow
    from mlflow.models import infer_signature

    run = client.get_run(run_id)
    # made here and handed on, since MLflow's own way is an active run, which ends the run with the block
    model = client.create_logged_model(run.info.experiment_id, name="model", source_run_id=run_id)
    mlflow.tensorflow.log_model(
        keras.models.load_model(registration.keras_model, compile=False),
        model_id=model.model_id,
        run_id=run_id,
        signature=infer_signature(registration.input_example, registration.output_example),
        input_example=registration.input_example,
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
    )
    return model


def read_back(
    client: "MlflowClient", run_id: str, registration: ModelRegistration, model: "LoggedModel"
) -> dict[str, str]:
    """Returns the hashes of evidence and model as the artifact store gives them back.

    Raises:
        UnavailableError: it gives back other evidence than it was given.
    """
    root = client.get_run(run_id).info.artifact_uri
    sources = {name: f"{root}/{name}" for name in registration.evidence}
    given = {name: evidence.hash_files(folder, name) for name, folder in registration.evidence.items()}
    kept = {name: hash_artifacts(source, name) for name, source in sources.items()}
    if kept != given:
        raise UnavailableError(
            "The artifact store keeps a version's evidence as it was given. Received: other files from "
            f"{without_credentials(root)}. Check the store, and run the step again."
        )
    return {
        **hash_artifacts(model.artifact_location, "model"),
        **{path: digest for files in kept.values() for path, digest in files.items()},
    }


def hash_artifacts(uri: str, below: str) -> dict[str, str]:
    """Returns the SHA-256 of every file of an artifact folder, by its path with `below` before it."""
    from mlflow.artifacts import download_artifacts

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar a file says nothing
    with tempfile.TemporaryDirectory(prefix="tumorflow-read-back-") as aside:
        return evidence.hash_files(Path(download_artifacts(artifact_uri=uri, dst_path=aside)), below)
