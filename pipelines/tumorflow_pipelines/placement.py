"""Puts a step of the pipeline where the cluster's settings say: image, resources, secrets, retries.

kfp's local runners read the image, the plain variables and the retries, and nothing else of this.
"""

from typing import TYPE_CHECKING

from tumorflow.cluster import LONGEST_SECONDS, ClusterParams, ImageKind, Needs, Retries, SecretEnv

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

JOB_VARIABLE = "TUMORFLOW_JOB"
RUN_ID_LABEL = "metadata.labels['pipeline/runid']"  # set by Kubeflow on every pod of a run
SOURCE_STEPS = frozenset({"ingest", "resolve"})
"""The steps that read a source: only they get its volume, the store's credentials and the pseudonym key."""


def place(task: "PipelineTask", step: str, image: ImageKind, cluster: ClusterParams) -> "PipelineTask":
    """Returns the task, told what its pod is like.

    Args:
        task: a task of a pipeline that is being compiled; it is changed in place, as kfp's own setters do.
        step: its name in the chain, or any other: then only its image's kind counts.
        image: which image it runs.
        cluster: the settings.
    """
    from kfp import kubernetes

    task.set_container_image(cluster.image(image))
    _ask_for_resources(task, cluster.needs(step, image), cluster.gpu_resource)
    if cluster.retries.count:
        task.set_retry(
            num_retries=cluster.retries.count,
            backoff_duration=f"{cluster.retries.backoff_seconds}s",
            backoff_factor=float(cluster.retries.factor),
            backoff_max_duration=f"{longest_with_retries(cluster.needs(step, image), cluster.retries)}s",
        )
    kubernetes.set_security_context(task, run_as_non_root=True)
    # the run's id is no argument of the step, for every run would then miss the cache
    kubernetes.use_field_path_as_env(task, JOB_VARIABLE, RUN_ID_LABEL)
    if cluster.image_pull_policy:
        kubernetes.set_image_pull_policy(task, cluster.image_pull_policy)
    if cluster.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.image_pull_secrets))
    if cluster.mlflow_tracking_uri:
        task.set_env_variable("MLFLOW_TRACKING_URI", cluster.mlflow_tracking_uri)
    _add_secret(task, cluster.secrets.mlflow)
    if step in SOURCE_STEPS:
        _let_read_sources(task, cluster)
    return task


def longest_with_retries(needs: Needs, retries: Retries) -> int:
    """Returns the seconds that a step may take with all its repetitions.

    Argo counts them from the start of the first try, and Kubeflow's own default of an hour would leave a
    training of two hours without a second try.
    """
    attempt = needs.timeout_seconds or LONGEST_SECONDS
    waits: int = sum(retries.backoff_seconds * retries.factor**turn for turn in range(retries.count))
    return attempt * (retries.count + 1) + waits


def _ask_for_resources(task: "PipelineTask", needs: Needs, gpu_resource: str) -> None:
    from kfp import kubernetes

    task.set_cpu_request(needs.cpu_request).set_cpu_limit(needs.cpu_limit)
    task.set_memory_request(needs.memory_request).set_memory_limit(needs.memory_limit)
    if needs.gpus:
        task.set_accelerator_type(gpu_resource).set_accelerator_limit(needs.gpus)
    if needs.timeout_seconds:
        kubernetes.set_timeout(task, needs.timeout_seconds)
    for key, value in needs.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in needs.tolerations:
        kubernetes.add_toleration(
            task,
            key=toleration.key,
            operator=toleration.operator,
            value=toleration.value,
            effect=toleration.effect or None,
        )


def _let_read_sources(task: "PipelineTask", cluster: ClusterParams) -> None:
    from kfp import kubernetes

    if cluster.s3_endpoint_url:
        task.set_env_variable("AWS_ENDPOINT_URL", cluster.s3_endpoint_url)
    if cluster.s3_region:
        task.set_env_variable("AWS_DEFAULT_REGION", cluster.s3_region)
    _add_secret(task, cluster.secrets.s3)
    _add_secret(task, cluster.secrets.pseudonym)
    if cluster.source_volume.claim:
        kubernetes.mount_pvc(task, cluster.source_volume.claim, cluster.source_volume.mount_path)


def _add_secret(task: "PipelineTask", secret: SecretEnv) -> None:
    from kfp import kubernetes

    if secret.name and secret.keys:
        for variable, key in secret.keys.items():
            kubernetes.use_secret_as_env(task, secret.name, {key: variable})
