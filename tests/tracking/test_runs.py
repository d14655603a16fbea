import numpy as np
import pytest

from tumorflow import tracking
from tumorflow.errors import UnavailableError
from tumorflow.tracker import ModelRegistration
from tumorflow.tracking import runs


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A sqlite store, made once: making its tables takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def client(store, monkeypatch):
    monkeypatch.chdir(store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return runs.connect()


def runs_of(client, job):
    experiment = runs.experiment_id(client)
    return client.search_runs([experiment], f"tags.`tumorflow.job` = '{job}'")


def test_steps_of_one_job_are_nested_in_one_parent(client):
    with tracking.track_step("ingest", "job-a", {"labels": ""}) as tracker:
        tracker.log_metrics({"slices": 3.0})
    with tracking.track_step("train", "job-a", {"epochs": 2}) as tracker:
        tracker.log_metrics({"loss": 0.5}, epoch=1)
        tracker.log_metrics({"loss": 0.25}, epoch=2)
        tracker.log_dataset("tensors", "d" * 64, "dicom", "training")
    parent = tracking.finish_job("job-a", True, {"macro_f1": 0.5}, {"tumorflow.decision": "accepted"})
    by_step = {run.data.tags.get("tumorflow.step", "parent"): run for run in runs_of(client, "job-a")}
    assert set(by_step) == {"parent", "ingest", "train"}
    assert by_step["parent"].info.run_id == parent
    assert by_step["parent"].data.metrics == {"macro_f1": 0.5}
    assert by_step["train"].data.tags["mlflow.parentRunId"] == parent
    assert by_step["train"].data.params["train.epochs"] == "2"
    history = client.get_metric_history(by_step["train"].info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]
    assert by_step["train"].inputs.dataset_inputs[0].dataset.name == "tensors"
    assert {run.info.status for run in by_step.values()} == {"FINISHED"}


def test_a_failing_step_ends_as_failed(client):
    with pytest.raises(RuntimeError), tracking.track_step("train", "job-b", {}):
        raise RuntimeError
    tracking.finish_job("job-b", False, {}, {})
    assert {run.info.status for run in runs_of(client, "job-b")} == {"FAILED"}


def test_a_server_that_is_away_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hidden-word@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9") as error:
        runs.connect()
    assert "hidden-word" not in str(error.value)


def test_a_release_is_registered_once_and_keeps_others_aliases(client, tmp_path):
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x)).save(tmp_path / "model.keras")
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "decision.json").write_text("{}")

    def register(alias, fingerprint="f" * 64):
        registration = ModelRegistration(
            name="tiny",
            keras_model=tmp_path / "model.keras",
            input_example=np.zeros((1, 8, 8, 3), np.float32),
            output_example=np.full((1, 2), 0.5, np.float32),
            evidence={"evidence": tmp_path / "evidence"},
            tags={"tumorflow.decision": "accepted"},
            fingerprint=fingerprint,
            alias=alias,
            description="tiny",
        )
        with tracking.track_step("export", "job-c", {}) as tracker:
            return tracker.register_model(registration)

    first = register("")
    assert (first.version, first.aliases) == ("1", ())
    again = register("candidate")
    assert (again.version, again.aliases, again.run_id) == ("1", ("candidate",), first.run_id)
    client.set_registered_model_alias("tiny", "champion", "1")
    second = register("candidate", fingerprint="0" * 64)
    assert (second.version, second.aliases) == ("2", ("candidate",))
    assert str(client.get_model_version_by_alias("tiny", "champion").version) == "1"
    version = client.get_model_version("tiny", "2")
    assert version.tags["tumorflow.decision"] == "accepted"
    kept = {entry.path for entry in client.list_artifacts(version.run_id, "evidence")}
    assert kept == {"evidence/decision.json"}

    import mlflow

    info = mlflow.models.get_model_info("models:/tiny/2")
    assert info.signature.inputs.inputs[0].shape == (-1, 8, 8, 3)
    assert info.saved_input_example_info is not None
