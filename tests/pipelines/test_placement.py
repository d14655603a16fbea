"""Where steps are put: what the compiled definition says of their pods."""

from pathlib import Path

import pytest
import yaml

from tumorflow.cluster import LONGEST_SECONDS, ClusterParams, Needs, Retries
from tumorflow.params import read_parameters
from tumorflow_pipelines.placement import longest_with_retries, place

pytestmark = [
    # the local runner says that an image, and resources, mean nothing to it: they are for the cluster
    pytest.mark.filterwarnings("ignore:You may be attemping:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Task .* have no effect in the current local runner:UserWarning"),
]

DIGEST = "sha256:" + "0123456789abcdef" * 4


def compiled(path: Path, cluster: ClusterParams) -> tuple[dict, dict]:
    """Returns the two documents of a pipeline of an ingestion and a training, both placed."""
    from kfp import compiler, dsl

    @dsl.component(base_image="localhost/placeholder:1", install_kfp_package=False)
    def ingest(source: str) -> str:
        return source.upper()

    @dsl.component(base_image="localhost/placeholder:1", install_kfp_package=False)
    def train(data: str) -> str:
        return data + "!"

    @dsl.pipeline(name="placed")
    def pipeline(source: str = "ct") -> str:
        ingested = place(ingest(source=source), "ingest", "light", cluster)
        return place(train(data=ingested.output), "train", "tensorflow", cluster).output

    compiler.Compiler().compile(pipeline, str(path))
    documents = list(yaml.safe_load_all(path.read_text()))
    executors = documents[0]["deploymentSpec"]["executors"]
    pods = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert list(executors) == list(pods) == ["exec-ingest", "exec-train"]
    return documents[0], pods


def settings(*overrides: str) -> ClusterParams:
    return read_parameters(None, overrides=[f"cluster.{override}" for override in overrides]).cluster


def container(definition: dict, step: str) -> dict:
    return definition["deploymentSpec"]["executors"][f"exec-{step}"]["container"]


def test_without_settings_a_pod_has_its_image_resources_deadline_and_the_name_of_its_run(tmp_path):
    definition, pods = compiled(tmp_path / "p.yaml", ClusterParams())
    ingest = container(definition, "ingest")
    assert ingest["image"].startswith("localhost/tumorflow-light:")
    assert container(definition, "train")["image"].startswith("localhost/tumorflow-tensorflow:")
    assert ingest["resources"]["resourceCpuRequest"] == "1"
    assert ingest["resources"]["resourceCpuLimit"] == "4"
    assert ingest["resources"]["resourceMemoryRequest"] == "2Gi"
    assert ingest["resources"]["resourceMemoryLimit"] == "4Gi"
    assert "accelerator" not in container(definition, "train")["resources"]
    assert "env" not in ingest
    assert pods["exec-ingest"] == {
        "activeDeadlineSeconds": "21600",
        "fieldPathAsEnv": [{"fieldPath": "metadata.labels['pipeline/runid']", "name": "TUMORFLOW_JOB"}],
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"runAsNonRoot": True},
    }


def test_every_setting_reaches_the_pod(tmp_path):
    cluster = settings(
        f"images.tensorflow=registry.example/tensorflow@{DIGEST}",
        "image_pull_secrets=[registry]",
        "resources.steps={train: {gpus: 2, timeout_seconds: 7200, node_selector: {pool: gpu},"
        " tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}]}}",
        "mlflow_tracking_uri=http://mlflow:5000",
        "secrets.mlflow.name=mlflow",
        "s3_endpoint_url=http://s3:9000",
        "s3_region=eu",
        "secrets.s3.name=s3",
        "secrets.pseudonym.name=pseudonym",
        "source_volume.claim=hospital",
    )
    definition, pods = compiled(tmp_path / "p.yaml", cluster)
    train, pod = container(definition, "train"), pods["exec-train"]
    assert train["image"] == f"registry.example/tensorflow@{DIGEST}"
    assert train["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert train["resources"]["accelerator"]["resourceCount"] == "2"
    assert pod["activeDeadlineSeconds"] == "7200"
    assert pod["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert [secret["secretName"] for secret in pod["imagePullSecret"]] == ["registry"]
    assert train["env"] == [{"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow:5000"}]
    assert secrets_of(pod) == {
        "MLFLOW_TRACKING_USERNAME": ("mlflow", "username"),
        "MLFLOW_TRACKING_PASSWORD": ("mlflow", "password"),
    }, "training reads no source, and holds no key to one"
    assert "pvcMount" not in pod
    ingest, pod = container(definition, "ingest"), pods["exec-ingest"]
    assert {entry["name"]: entry["value"] for entry in ingest["env"]} == {
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "AWS_ENDPOINT_URL": "http://s3:9000",
        "AWS_DEFAULT_REGION": "eu",
    }
    assert secrets_of(pod)["TUMORFLOW_PSEUDONYM_KEY"] == ("pseudonym", "key")
    assert secrets_of(pod)["AWS_SECRET_ACCESS_KEY"] == ("s3", "AWS_SECRET_ACCESS_KEY")
    assert (pod["pvcMount"][0]["constant"], pod["pvcMount"][0]["mountPath"]) == ("hospital", "/sources")


def secrets_of(pod: dict) -> dict[str, tuple[str, str]]:
    """Returns variable → name and key of the Secret that it comes from."""
    return {
        pair["envVar"]: (secret["secretName"], pair["secretKey"])
        for secret in pod["secretAsEnv"]
        for pair in secret["keyToEnv"]
    }


def test_two_variables_may_come_from_one_key(tmp_path):
    cluster = settings("secrets.s3={name: s3, keys: {AWS_ACCESS_KEY_ID: id, OTHER_ID: id}}")
    _, pods = compiled(tmp_path / "p.yaml", cluster)
    assert secrets_of(pods["exec-ingest"]) == {"AWS_ACCESS_KEY_ID": ("s3", "id"), "OTHER_ID": ("s3", "id")}


def test_a_failed_pod_is_started_again_after_growing_waits(tmp_path):
    definition, _ = compiled(tmp_path / "p.yaml", ClusterParams())
    policy = definition["root"]["dag"]["tasks"]["train"]["retryPolicy"]
    assert policy == {
        "maxRetryCount": 3,
        "backoffDuration": "30s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": f"{4 * 86400 + 30 + 60 + 120}s",
    }


def test_a_long_step_is_repeated_too():
    needs = Needs(timeout_seconds=0)
    assert longest_with_retries(needs, Retries(count=1, backoff_seconds=10)) == 2 * LONGEST_SECONDS + 10


def test_local_runners_take_the_same_definition_whatever_the_settings(tmp_path, monkeypatch):
    from kfp import components, local

    cluster = settings(
        "resources.steps={train: {gpus: 1, node_selector: {pool: gpu}, tolerations: [{key: gpu}]}}",
        "secrets.pseudonym.name=pseudonym",
        "source_volume.claim=hospital",
        "image_pull_secrets=[registry]",
    ).without_retries()
    definition, _ = compiled(tmp_path / "p.yaml", cluster)
    assert "retryPolicy" not in definition["root"]["dag"]["tasks"]["train"]
    monkeypatch.chdir(tmp_path)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    pipeline = components.load_component_from_file(str(tmp_path / "p.yaml"))
    assert pipeline(source="scans").outputs == {"Output": "SCANS!"}
