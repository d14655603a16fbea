"""The cluster's settings."""

from pathlib import Path

import pytest

from tumorflow.cluster import ClusterParams, Toleration
from tumorflow.errors import ParameterError
from tumorflow.params import Parameters, read_parameters

PARAMS = Path(__file__).parents[1] / "params.yaml"


def test_params_yaml_shows_the_defaults():
    assert read_parameters(PARAMS).cluster == ClusterParams() == Parameters().cluster


def test_a_step_asks_for_its_own_in_place_of_what_its_kind_asks_for():
    cluster = read_parameters(
        PARAMS,
        overrides=[
            "cluster.resources.steps={train: {gpus: 1, tolerations: [{key: gpu, operator: Exists}]}}",
            "cluster.resources.tensorflow.memory_limit=16Gi",
        ],
    ).cluster
    train = cluster.needs("train", "tensorflow")
    assert (train.gpus, train.memory_limit) == (1, "16Gi")
    assert train.tolerations == (Toleration(key="gpu", operator="Exists"),)
    assert cluster.needs("evaluate", "tensorflow").gpus == 0
    assert cluster.needs("ingest", "light").memory_limit == "4Gi"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("cluster.resources.light.memory_limit=lots", "cluster.resources.light.memory_limit"),
        ("cluster.retries.count=99", "cluster.retries.count"),
        ("cluster.image_pull_policy=Sometimes", "cluster.image_pull_policy"),
        ("cluster.gpu=1", "cluster.gpu"),
        ("cluster.secrets.s3.name=Not_A_Name", "cluster.secrets.s3.name"),
        ("cluster.mlflow_tracking_uri=https://user:secret@mlflow", "cluster.mlflow_tracking_uri"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(override, told):
    with pytest.raises(ParameterError) as refused:
        read_parameters(PARAMS, overrides=[override])
    assert told in str(refused.value)


def test_an_address_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(ParameterError) as refused:
        read_parameters(PARAMS, overrides=["cluster.mlflow_tracking_uri=https://user:hunter2@mlflow"])
    assert "hunter2" not in str(refused.value)
