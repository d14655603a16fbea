import zipfile

import numpy as np

from tumorflow.tensorflow_runtime import configure
from tumorflow.training.archive import number_shared, save_network


def build():
    keras = configure(seed=3)
    keras.utils.clear_session()  # or the layers' names would count on
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(3)(inputs)))


def test_the_same_network_is_the_same_bytes_and_loads_as_before(tmp_path):
    network = build()
    for name in ("first.keras", "second.keras"):
        save_network(network, tmp_path / name)
    save_network(build(), tmp_path / "third.keras")
    first, second, third = (
        (tmp_path / f"{name}.keras").read_bytes() for name in ("first", "second", "third")
    )
    assert first == second == third
    keras = configure(seed=3)
    loaded = keras.models.load_model(tmp_path / "first.keras", compile=False)
    given = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(loaded(given), network(given))
    assert zipfile.ZipFile(tmp_path / "first.keras").testzip() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.keras", "second.keras", "third.keras"]


def test_shared_objects_are_numbered_as_they_come():
    tree = {"a": {"shared_object_id": 99}, "b": [{"shared_object_id": 5}, {"shared_object_id": 99}], "c": 99}
    assert number_shared(tree, {}) == {
        "a": {"shared_object_id": 1},
        "b": [{"shared_object_id": 2}, {"shared_object_id": 1}],
        "c": 99,
    }
