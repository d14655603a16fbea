"""The cluster's settings."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tumorflow.cluster import ClusterParams, Toleration, to_number
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


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"resources": {"steps": {"trian": {"gpus": 1}}}}, "not trian"),
        ({"resources": {"light": {"cpu_request": "8"}}}, "cpu_request is at most cpu_limit"),
        ({"resources": {"steps": {"train": {"memory_request": "64Gi"}}}}, "train: memory_request"),
        ({"images": {"light": "foo bar:1"}}, "pattern"),
        ({"mlflow_tracking_uri": "m:5000"}, "http://"),
        ({"secrets": {"pseudonym": {"name": "x", "keys": {}}}}, "at least one of its keys"),
        ({"resources": {"light": {"tolerations": [{"operator": "Equal"}]}}}, "operator Exists"),
    ],
)
def test_what_a_cluster_would_refuse_in_the_middle_of_a_run_is_refused_here(section, said):
    with pytest.raises(ValidationError, match=said):
        ClusterParams.model_validate_json(json.dumps(section))


def test_quantities_are_numbers():
    assert [to_number(quantity) for quantity in ("500m", "2", "1.5", "1Ki", "3M")] == [0.5, 2, 1.5, 1024, 3e6]


def test_quantities_and_empty_addresses_may_be_what_yaml_reads():
    params = read_parameters(
        None,
        ["in_cluster"],
        [
            "cluster.resources.light.cpu_request=0.5",
            "cluster.resources.tensorflow.cpu_request=2",
            "cluster.s3_endpoint_url=",
        ],
    )
    assert params.cluster.resources.light.cpu_request == "0.5"
    assert params.cluster.resources.tensorflow.cpu_request == "2"
    assert params.cluster.resources.tensorflow.memory_request == "2Gi", "of the preset"
    assert params.cluster.s3_endpoint_url == ""


def test_a_truth_value_is_no_quantity():
    with pytest.raises(ParameterError, match="cpu_request"):
        read_parameters(None, [], ["cluster.resources.light.cpu_request=true"])
