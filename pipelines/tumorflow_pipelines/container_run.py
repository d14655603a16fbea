"""What steps in containers need of this machine: images, folders, the pseudonym key, MLflow's store."""

import json
import os
from pathlib import Path

import yaml

from tumorflow.errors import UsageError
from tumorflow.ingestion.pseudonym_key import VARIABLE, load_or_create_key
from tumorflow.params import Parameters
from tumorflow.tracking.connection import connect, experiment_id, local_store, tracking_uri
from tumorflow_pipelines.containers import (
    START_VARIABLE,
    Containers,
    contain,
    find_engine,
    find_image,
    remove_left_containers,
)


def contain_definition(
    definition: Path, params: Parameters, source: str, runs: Path, scratch: Path, *, memory: str
) -> tuple[Path, dict[str, str]]:
    """Returns a definition whose steps run in containers, and the ids of the images by their kind.

    Args:
        definition: the compiled one.
        params: name the images, and a file of weights.
        source: the steps' source; a folder is shown to them.
        runs: folder that the steps write artifacts to.
        scratch: folder for the definition and the containers' own temporary files.
        memory: the most a container may have; empty: all there is.

    Raises:
        UnavailableError: no container engine answers.
        UsageError: an image is missing, or the tracking store is below no folder that can be shown.
    """
    engine = find_engine()
    images = {
        "light": find_image(engine, params.cluster.images.light),
        "tensorflow": find_image(engine, params.cluster.images.tensorflow),
    }
    artifacts = runs / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    temporary = scratch / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    remove_left_containers(engine, str(runs))
    weights = Path(params.train.weights)
    containers = Containers(
        engine=engine,
        read=tuple(path.absolute() for path in (*source_folders(source), weights) if path.exists()),
        written=(artifacts, *_show_store()),
        scratch=temporary,
        memory=memory,
        label=str(runs),
    )
    # a step has no user's folder to make a key in; these are handed to containers by name
    os.environ[VARIABLE] = load_or_create_key().hex()
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri()
    os.environ[START_VARIABLE] = json.dumps(containers.start_command())
    contained = scratch / "contained.yaml"
    pipeline, *platforms = yaml.safe_load_all(definition.read_text())
    contained.write_text(yaml.safe_dump_all([contain(pipeline), *platforms], sort_keys=False))
    return contained, images


def source_folders(source: str) -> list[Path]:
    """Returns the folders of this machine that a source is read from: none for S3 and git's own addresses.

    A DVC project's remote outside of it is not known here; its cache, or S3, has what containers can read.
    """
    from tumorflow.storage.addresses import Folder, S3Prefix, parse

    address = parse(source)
    if isinstance(address, S3Prefix):
        return []
    return [address.path if isinstance(address, Folder) else Path(address.repository)]


def _show_store() -> list[Path]:
    """Returns the folder of a tracking store that needs no server, after making its experiment from here."""
    uri = tracking_uri()
    if not uri.startswith("sqlite:///"):
        return []
    experiment_id(connect())  # where its artifacts lie is settled by whoever makes it
    folder = Path(uri.removeprefix("sqlite:///")).parent
    if not folder.is_absolute():
        raise UsageError(
            f"Containers need MLflow's store at an absolute path. Received: {uri}. "
            "Write sqlite:////absolute/path/mlflow.db"
        )
    return sorted({folder, local_store()}) if local_store().exists() else [folder]
