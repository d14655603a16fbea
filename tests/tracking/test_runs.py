import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tumorflow import tracking
from tumorflow.errors import SourceError, TumorflowError, UnavailableError
from tumorflow.tracker import ModelRegistration
from tumorflow.tracking.connection import connect, experiment_id
from tumorflow.tracking.registry import settle_versions


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A sqlite store, made once: making its tables takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def client(store, monkeypatch):
    monkeypatch.chdir(store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return connect()


def runs_of(client, job):
    experiment = experiment_id(client)
    return client.search_runs([experiment], f"tags.`tumorflow.job` = '{job}'")


def test_steps_of_one_job_are_nested_in_one_parent(client):
    with tracking.track_step("ingest", "job-a", {"labels": ""}) as tracker:
        tracker.log_metrics({"slices": 3.0})
    with tracking.track_step("train", "job-a", {"epochs": 2}) as tracker:
        tracker.log_metrics({"loss": 0.5}, epoch=1)
        tracker.log_metrics({"loss": 0.25}, epoch=2)
        tracker.log_dataset("tensors", "d" * 64, "dicom", "training")
    tracking.finish_job(
        "job-a",
        "FINISHED",
        metrics={"macro_f1": 0.5},
        tags={"tumorflow.decision": "accepted"},
        summary={"status": "finished"},
    )
    by_step = {run.data.tags.get("tumorflow.step", "parent"): run for run in runs_of(client, "job-a")}
    assert set(by_step) == {"parent", "ingest", "train"}
    parent = by_step["parent"].info.run_id
    assert by_step["parent"].data.tags["tumorflow.decision"] == "accepted"
    assert by_step["parent"].data.metrics == {"macro_f1": 0.5}
    assert by_step["train"].data.tags["mlflow.parentRunId"] == parent
    assert by_step["train"].data.params["train.epochs"] == "2"
    history = client.get_metric_history(by_step["train"].info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]
    assert by_step["train"].inputs.dataset_inputs[0].dataset.name == "tensors"
    assert {run.info.status for run in by_step.values()} == {"FINISHED"}
    assert tracking.fetch_summary("job-a") == {"status": "finished"}
    assert tracking.find_finished_steps("job-a") == ["ingest", "train"]


def test_a_run_that_nobody_knows_has_no_summary(client):
    assert tracking.fetch_summary("never") is None
    tracking.finish_job("job-without", "FAILED")
    assert tracking.fetch_summary("job-without") is None


def test_a_failing_step_ends_as_failed(client):
    with pytest.raises(RuntimeError), tracking.track_step("train", "job-b", {}):
        raise RuntimeError
    tracking.finish_job("job-b", "FAILED")
    assert {run.info.status for run in runs_of(client, "job-b")} == {"FAILED"}
    assert "unforeseen, with RuntimeError" in str(tracking.find_failure("job-b"))


def test_a_step_that_was_killed_is_tried_again_and_closed(client):
    def killed():
        with tracking.track_step("train", "job-d", {}):
            yield

    abandoned = killed()
    next(abandoned)  # the process dies here: nobody ends the run
    with tracking.track_step("train", "job-d", {}):
        pass
    assert sorted(run.info.status for run in runs_of(client, "job-d")) == ["FINISHED", "KILLED", "RUNNING"]
    tracking.finish_job("job-d", "FINISHED")
    assert sorted(run.info.status for run in runs_of(client, "job-d")) == ["FINISHED", "FINISHED", "KILLED"]
    abandoned.close()


def test_the_end_of_a_job_ends_every_step_of_it(client):
    def killed():
        with tracking.track_step("train", "job-e", {}):
            yield

    abandoned = killed()
    next(abandoned)
    tracking.finish_job("job-e", "FAILED")
    assert sorted(run.info.status for run in runs_of(client, "job-e")) == ["FAILED", "KILLED"]
    abandoned.close()


def test_a_failure_that_stays_is_not_tried_again(client):
    tried = []

    def split():
        with tracking.track_step("preprocess", "job-f", {}):
            tried.append(1)
            raise SourceError("too few patients")

    for _ in range(2):
        with pytest.raises(TumorflowError, match="too few patients") as error:
            split()
        assert error.value.exit_code == 2
    assert tried == [1]
    failure = tracking.find_failure("job-f")
    assert (str(failure), failure.exit_code) == ("too few patients", 2)


def test_a_failure_of_the_surroundings_is_tried_again(client):
    tried = []

    def upload():
        with tracking.track_step("export", "job-g", {}):
            tried.append(1)
            raise UnavailableError("the store is away")

    for _ in range(2):
        with pytest.raises(UnavailableError):
            upload()
    assert tried == [1, 1]


def test_a_request_that_was_sent_twice_leaves_one_run(client, monkeypatch):
    create = type(client).create_run

    def doubled(self, *given, **named):
        create(self, *given, **named)
        return create(self, *given, **named)

    monkeypatch.setattr(type(client), "create_run", doubled)
    with tracking.track_step("ingest", "job-h", {}):
        pass
    assert len(runs_of(client, "job-h")) == 2, "the parent and the step"


def test_a_server_that_is_away_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hidden-word@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9") as error:
        connect()
    assert "hidden-word" not in str(error.value)


def test_a_version_that_was_made_twice_is_kept_once(client):
    client.create_registered_model("twins")
    for _ in range(2):
        client.create_model_version("twins", source="/nowhere", tags={"tumorflow.fingerprint": "a"})
    registration = ModelRegistration(
        name="twins",
        keras_model=None,
        input_example=None,
        output_example=None,
        evidence={},
        tags={},
        fingerprint="a",
    )
    assert str(settle_versions(client, registration).version) == "1"
    assert [str(version.version) for version in client.search_model_versions("name = 'twins'")] == ["1"]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Registers a model, with what is given laid over, in a run of the step export."""
    from tumorflow.tensorflow_runtime import configure

    folder = tmp_path_factory.mktemp("release")
    keras = configure(seed=1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x)).save(folder / "model.keras")
    (folder / "evidence").mkdir()
    (folder / "evidence" / "decision.json").write_text("{}")
    registration = ModelRegistration(
        name="tiny",
        keras_model=folder / "model.keras",
        input_example=np.zeros((1, 8, 8, 3), np.float32),
        output_example=np.full((1, 2), 0.5, np.float32),
        evidence={"evidence": folder / "evidence"},
        tags={"tumorflow.decision": "accepted"},
        fingerprint="f" * 64,
        describe=lambda experiment, run: f"{experiment} and {run}",
    )

    def register(**changed):
        with tracking.track_step("export", "job-c", {}) as tracker:
            return tracker.register_model(replace(registration, **changed))

    return register


def test_a_release_is_registered_once_and_keeps_others_aliases(client, release):
    first = release()
    assert (first.version, first.aliases) == ("1", ())
    again = release(alias="candidate", tags={"tumorflow.decision": "rejected"})
    assert (again.version, again.aliases, again.run_id) == ("1", ("candidate",), first.run_id)
    assert again.tags == first.tags, "what was decided on stays as it was"
    assert client.get_model_version("tiny", "1").description == f"{experiment_id(client)} and {first.run_id}"
    client.set_registered_model_alias("tiny", "champion", "1")
    second = release(alias="candidate", fingerprint="0" * 64)
    assert (second.version, second.aliases) == ("2", ("candidate",))
    assert str(client.get_model_version_by_alias("tiny", "champion").version) == "1"

    import mlflow

    info = mlflow.models.get_model_info("models:/tiny/2")
    assert info.signature.inputs.inputs[0].shape == (-1, 8, 8, 3)
    assert info.saved_input_example_info is not None


def test_a_version_is_made_with_all_its_tags_after_all_its_files(client, release, monkeypatch):
    create, seen = type(client).create_model_version, []

    def watched(self, *given, **named):
        run = self.get_run(named["run_id"])
        files = [entry.path for entry in self.list_artifacts(named["run_id"], "evidence")]
        seen.append((run.info.status, files))
        return create(self, *given, **named)

    monkeypatch.setattr(type(client), "create_model_version", watched)
    for name in ("set_model_version_tag", "delete_model_version_tag", "update_model_version"):
        monkeypatch.setattr(type(client), name, None)  # a guarded server takes none of them
    made = release(fingerprint="1" * 64)
    assert seen == [("RUNNING", ["evidence/decision.json", "evidence/manifest.json"])]
    assert set(made.tags) == {"tumorflow.decision", "tumorflow.fingerprint", "tumorflow.evidence_hash"}


def test_the_manifest_holds_every_file_of_evidence_and_model(client, release, tmp_path):
    made = release(fingerprint="2" * 64)
    manifest = Path(client.download_artifacts(made.run_id, "evidence/manifest.json", tmp_path)).read_bytes()
    assert made.tags["tumorflow.evidence_hash"] == hashlib.sha256(manifest).hexdigest()

    import mlflow

    source = client.get_model_version_download_uri("tiny", made.version)
    kept = mlflow.artifacts.download_artifacts(source, dst_path=tmp_path / "model")
    files = {f"model/{path.relative_to(kept)}": path for path in Path(kept).rglob("*") if path.is_file()}
    assert {"model/MLmodel", "model/data/model.keras", "model/input_example.json"} <= set(files)
    expected = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    expected["evidence/decision.json"] = hashlib.sha256(b"{}").hexdigest()
    assert json.loads(manifest)["files"] == expected


def test_a_store_that_gives_back_other_files_gets_no_version(client, release, monkeypatch):
    log = type(client).log_artifacts

    def damaged(self, run_id, folder, artifact_path):
        log(self, run_id, folder, artifact_path=artifact_path)
        self.log_text(run_id, "{ }", "evidence/decision.json")

    monkeypatch.setattr(type(client), "log_artifacts", damaged)
    with pytest.raises(UnavailableError, match="other files from file:"):
        release(fingerprint="3" * 64)
    assert not client.search_model_versions(f"tag.`tumorflow.fingerprint` = '{'3' * 64}'")
