"""What is sent to Kubeflow Pipelines: the checked definition as a pipeline version, and a run's arguments."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumorflow import __version__
from tumorflow.cluster import ClusterParams
from tumorflow.errors import ParameterError, SourceError, UnavailableError, UsageError
from tumorflow.files import hash_file
from tumorflow.params import Parameters
from tumorflow.storage import ResolvedSource
from tumorflow_pipelines.definition_check import require_sound
from tumorflow_pipelines.kubeflow_client import Kubeflow

DEFAULT_EXPERIMENT = "tumorflow"
NOTICE = "For research, not for clinical decisions."


def write_definition(pipeline: str, params: Parameters, folder: Path) -> Path:
    """Returns the path of the checked definition of `pipeline` for this cluster.

    Raises:
        UsageError: it would not run there: the cluster section names no image, or no MLflow.
    """
    from tumorflow_pipelines.compilation import compile_pipeline

    if not params.cluster.mlflow_tracking_uri:
        raise ParameterError(
            "Parameter 'cluster.mlflow_tracking_uri': the address of MLflow as a pod sees it. Received: "
            "nothing, and what runs track would be lost with their pods. For example: "
            "--set cluster.mlflow_tracking_uri=http://tumorflow-mlflow.tumorflow:5000"
        )
    definition = folder / f"{pipeline}.yaml"
    compile_pipeline(definition, params.cluster, params.preprocess.parallel_parts, name=pipeline)
    require_sound(definition, params.cluster.require_digests)
    return definition


def pipeline_name(pipeline: str) -> str:
    """Returns what a pipeline is called on Kubeflow."""
    return f"tumorflow-{pipeline}"


def upload(kubeflow: Kubeflow, pipeline_kind: str, definition: Path) -> tuple[str, str]:
    """Returns the ids of the pipeline and of its version with this definition; an existing one is taken."""
    name = pipeline_name(pipeline_kind)
    pipeline = kubeflow.find_pipeline(name) or kubeflow.create_pipeline(name, NOTICE)
    version = f"{__version__}-{hash_file(definition)[:12]}"
    found = kubeflow.find_version(pipeline.pipeline_id, version) or kubeflow.upload_version(
        pipeline.pipeline_id, version, definition, NOTICE
    )
    return str(pipeline.pipeline_id), str(found.pipeline_version_id)


def experiment_id(kubeflow: Kubeflow, name: str) -> str:
    """Returns the id of the experiment called `name`; without a name that of `tumorflow`, made if need be.

    Raises:
        UsageError: there is no such experiment.
    """
    found = kubeflow.find_experiment(name or DEFAULT_EXPERIMENT)
    if found is None and name:
        names = ", ".join(sorted(kubeflow.experiment_names())) or "none at all"
        raise UsageError(
            f"--experiment names one that exists. Received: '{name}'; there are: {names}. Name one of these, "
            f"make it in Kubeflow, or leave the option out for '{DEFAULT_EXPERIMENT}'."
        )
    if found is None:
        found = kubeflow.create_experiment(DEFAULT_EXPERIMENT, NOTICE)
    return str(found.experiment_id)


def locate(source: str, data_hash: str, cluster: ClusterParams, state_folder: Path) -> ResolvedSource:
    """Returns the source as a pod finds it, and the version of its data.

    Args:
        source: s3://…, REPO@REV, or a folder as the pod sees it.
        data_hash: promised by the user; empty: it is found out.
        cluster: whose volume folders are in.
        state_folder: remembers hashes of local files.

    Raises:
        UsageError: no pod could read it, or its version cannot be told from here.
    """
    from tumorflow_pipelines.data_version import resolve_source

    require_reachable(source, cluster)
    if data_hash:
        return ResolvedSource(source, data_hash)
    if Path(source).is_absolute() and not Path(source).is_dir():
        raise SourceError(
            f"The version of data is a hash of its content. Received: {source}, which only the cluster has. "
            "Give the md5 of its .dvc file, without '.dir', by --data-hash."
        )
    resolved: ResolvedSource = resolve_source(source, state_folder)
    return resolved


def require_reachable(source: str, cluster: ClusterParams) -> None:
    """Returns where pods can read a source.

    Raises:
        UsageError: it is none, or lies on this machine.
    """
    from tumorflow.storage.addresses import DvcRevision, S3Prefix, parse

    address = parse(source)
    if isinstance(address, S3Prefix) or (isinstance(address, DvcRevision) and address.is_url):
        return
    folder = Path(address.repository) if isinstance(address, DvcRevision) else address.path
    volume = cluster.source_volume
    if not volume.claim or not folder.is_relative_to(volume.mount_path):
        raise SourceError(
            "A run on a cluster reads s3://BUCKET/PREFIX, the REPO@REV of a git URL, or a folder of the "
            f"volume cluster.source_volume. Received: {source}, a folder of this machine. Copy it there."
        )


def describe_arguments(
    definition: Path, params: Parameters, source: ResolvedSource, champion: str = ""
) -> dict[str, str]:
    """Returns the arguments of a run on the cluster, as many as the definition declares.

    Args:
        definition: the compiled one.
        params: of all steps, and of the cluster.
        source: where the data are, and their version.
        champion: the yardstick, NAME/VERSION; empty: none.
    """
    from tumorflow.ingestion.pseudonym_key import VARIABLE, key_id, load_or_create_key
    from tumorflow_pipelines.arguments import pipeline_arguments

    return pipeline_arguments(
        definition,
        params,
        source=source.source,
        data_hash=source.data_hash,
        # the cluster has its own key in a Secret; one made up here would be another
        key_id=key_id(load_or_create_key()) if os.environ.get(VARIABLE) else "",
        registry=params.cluster.mlflow_tracking_uri,
        images=params.cluster.images.model_dump(),
        champion=champion,
    )


def describe_run(
    name: str, experiment: str, version: tuple[str, str], arguments: Mapping[str, Any], cluster: ClusterParams
) -> Any:
    """Returns a run as Kubeflow's API takes it."""
    import kfp_server_api as api

    pipeline_id, version_id = version
    return api.V2beta1Run(
        display_name=name,
        description=NOTICE,
        experiment_id=experiment,
        pipeline_version_reference=api.V2beta1PipelineVersionReference(pipeline_id, version_id),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(arguments)),
        service_account=cluster.service_account or None,
    )


def start_run(kubeflow: Kubeflow, run: Any) -> Any:
    """Returns the run, started once: where only the answer was lost, the run that was made is taken."""
    earlier = {entry.run_id for entry in kubeflow.find_runs(run.experiment_id, run.display_name)}
    try:
        return kubeflow.create_run(run)
    except UnavailableError:
        for found in kubeflow.find_runs(run.experiment_id, run.display_name):
            if found.run_id not in earlier:
                return found
        raise
