import numpy as np
import pytest

from tumorflow import tracking
from tumorflow.errors import ParameterError, UnavailableError
from tumorflow.tracker import ModelRegistration, Untracked
from tumorflow.tracking.connection import connect

FILES = ("model.keras", "evidence/groups.parquet", "evidence/preprocessing.json")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A sqlite store, made once: making its tables takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(autouse=True)
def client(store, monkeypatch):
    monkeypatch.chdir(store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return connect()


@pytest.fixture(scope="module")
def registered(store):
    """A version of the model `tiny`, with one piece of evidence."""
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x)).save(store / "tiny.keras")
    (store / "files").mkdir()
    (store / "files" / "groups.parquet").write_bytes(b"table")
    registration = ModelRegistration(
        name="tiny",
        keras_model=store / "tiny.keras",
        input_example=np.zeros((1, 8, 8, 3), np.float32),
        output_example=np.full((1, 2), 0.5, np.float32),
        evidence={"evidence": store / "files"},
        tags={"tumorflow.data_hash": "d" * 64},
        fingerprint="f" * 64,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with tracking.track_step("export", "job-r", {}) as tracker:
            return tracker.register_model(registration)


@pytest.fixture
def tracker(client):
    with tracking.track_step("evaluate", "job-r", {}) as tracker:
        yield tracker


def test_a_model_without_champion_has_none(tracker, registered):
    assert tracker.find_champion("tiny") is None
    assert tracker.find_champion("nobody") is None


def test_the_champion_is_the_version_that_has_the_alias(client, tracker, registered):
    client.set_registered_model_alias("tiny", "champion", registered.version)
    found = tracker.find_champion("tiny")
    assert (found.version, found.aliases, found.run_id) == ("1", ("champion",), registered.run_id)
    assert found.tags["tumorflow.data_hash"] == "d" * 64
    client.delete_registered_model_alias("tiny", "champion")


def test_fetches_what_the_version_has(store, tracker, registered, tmp_path):
    found = tracker.fetch_version("tiny", "1", tmp_path, FILES)
    assert found.run_id == registered.run_id
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} == set(FILES[:2])
    assert (tmp_path / FILES[1]).read_bytes() == b"table"

    import keras

    network = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    expected = keras.saving.load_model(store / "tiny.keras", compile=False)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(network.predict_on_batch(pixels), expected.predict_on_batch(pixels))


@pytest.mark.parametrize(("name", "version"), [("tiny", "99"), ("tiny", "first"), ("nobody", "1")])
def test_a_version_that_is_not_there_is_refused(tracker, registered, tmp_path, name, version):
    with pytest.raises(ParameterError, match=f"Received: {name}/{version}, which is not there"):
        tracker.fetch_version(name, version, tmp_path, FILES)


def test_a_store_that_lost_its_files_is_named(client, tracker, registered, tmp_path, monkeypatch):
    def refuse(**_):
        raise ConnectionResetError

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", refuse)
    with pytest.raises(UnavailableError, match=r"ConnectionResetError for 'model\.keras' of tiny/1"):
        tracker.fetch_version("tiny", "1", tmp_path, FILES)


def test_without_a_registry_there_is_no_champion(tmp_path):
    assert Untracked().find_champion("tiny") is None
    with pytest.raises(UnavailableError, match="tiny/1"):
        Untracked().fetch_version("tiny", "1", tmp_path, FILES)


def test_the_champion_is_looked_up(client):
    client.create_registered_model("looked-up")
    client.create_model_version("looked-up", source="here")
    assert tracking.look_up_champion("looked-up") == ""
    client.set_registered_model_alias("looked-up", "champion", "1")
    assert tracking.look_up_champion("looked-up") == "looked-up/1"
    assert tracking.look_up_champion("nobody-knows-it") == ""


def test_a_store_that_is_not_there_has_no_champion_and_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert tracking.look_up_champion("tumorflow-ct") == ""
    assert not list(tmp_path.iterdir())
