import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from tumorflow.params import TrainParams, read_parameters
from tumorflow.tracker import Untracked
from tumorflow.training.backbones import build_backbone
from tumorflow.training.step import run

SMALL = {
    "weights": "none",
    "dense_units": 8,
    "epochs": 3,
    "early_stopping_patience": 3,
    "augmented_views": 1,
}


@pytest.fixture(scope="module")
def trained(tensors, tmp_path_factory):
    """The folder of one small run with attention."""
    model = tmp_path_factory.mktemp("trained")
    run(TrainParams(**SMALL, attention="cbam"), tensors=tensors, model=model, tracker=Untracked())
    return model


def read_history(model):
    with (model / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def weights_of(network, layer):
    return np.concatenate([array.ravel() for array in network.get_layer(layer).get_weights()])


def predict(model):
    import keras

    images = np.random.default_rng(1).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    return keras.models.load_model(model / "model.keras", compile=False).predict_on_batch(images)


def test_outputs_are_those_of_the_contract(trained):
    assert sorted(path.name for path in trained.iterdir()) == ["history.csv", "model.keras", "training.json"]
    facts = json.loads((trained / "training.json").read_text())
    assert set(facts) == {
        "backbone",
        "weights",
        "attention",
        "parameters",
        "trainable_parameters",
        "best_epoch",
        "temperature",
        "class_weights",
        "seed",
    }
    assert facts["class_weights"] == {"normal": 1.0, "benign": 1.0, "malignant": 1.0}
    history = read_history(trained)
    assert list(history[0]) == [
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "val_macro_f1",
        "learning_rate",
    ]
    losses = [row["val_loss"] for row in history]
    assert facts["best_epoch"] == 1 + losses.index(min(losses))


def test_model_loads_without_tumorflow_in_safe_mode(trained):
    program = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model(sys.argv[1], compile=False, safe_mode=True)\n"
        "answer = model.predict_on_batch(np.zeros((2, 32, 32, 3), 'float32'))\n"
        "print(answer.shape, np.allclose(answer.sum(axis=1), 1, atol=1e-5), 'tumorflow' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, trained / "model.keras"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[-2] == "(2, 3) True False"


def test_same_seed_same_answers(tensors, new_model, trained):
    again = new_model("again")
    run(TrainParams(**SMALL, attention="cbam"), tensors=tensors, model=again, tracker=Untracked())
    assert (again / "history.csv").read_bytes() == (trained / "history.csv").read_bytes()
    assert (again / "training.json").read_bytes() == (trained / "training.json").read_bytes()
    np.testing.assert_array_equal(predict(again), predict(trained))


def test_imagenet_features_learn_the_classes_with_and_without_the_cache(tensors, new_model):
    histories = []
    for cached in (True, False):
        model = new_model(f"cached-{cached}")
        params = TrainParams(
            epochs=15, learning_rate=1e-2, augmented_views=0, dropout=0.0, refit=False, cache_features=cached
        )
        run(params, tensors=tensors, model=model, tracker=Untracked())
        histories.append(read_history(model))
    assert histories[0][-1]["accuracy"] == 1.0
    assert histories[0][-1]["val_accuracy"] > 0.8
    for with_cache, without in zip(*histories, strict=True):
        assert with_cache == pytest.approx(without, abs=0.02)


def test_fine_tuning_moves_the_backbone_but_not_its_statistics(tensors, new_model):
    import keras

    model = new_model("model")
    params = {**SMALL, "weights": "imagenet", "epochs": 1, "learning_rate": 1e-7, "augmented_views": 0}
    params |= {"fine_tune": True, "fine_tune_learning_rate": 1e-4, "seed": 1}
    run(TrainParams(**params), tensors=tensors, model=model, tracker=Untracked())
    assert [row["learning_rate"] for row in read_history(model)] == [1e-7, 1e-4]
    assert json.loads((model / "training.json").read_text())["best_epoch"] == 2
    tuned = keras.models.load_model(model / "model.keras", compile=False)
    imagenet, _ = build_backbone("efficientnet_lite0", "imagenet", 32)
    assert not np.array_equal(weights_of(tuned, "stem"), weights_of(imagenet, "stem"))
    np.testing.assert_array_equal(weights_of(tuned, "stem_norm"), weights_of(imagenet, "stem_norm"))


def test_oversampling_needs_no_class_weights(tensors, new_model):
    model = new_model("model")
    params = TrainParams(**SMALL, imbalance="oversampling")
    run(params, tensors=tensors, model=model, tracker=Untracked())
    facts = json.loads((model / "training.json").read_text())
    assert set(facts["class_weights"].values()) == {1.0}


def test_the_articles_recipe_runs_where_its_weights_cannot_be_had(tensors, new_model):
    overrides = ["train.weights=none", "train.epochs=1"]
    params = read_parameters(None, presets=["article"], overrides=overrides).train
    assert (params.backbone, params.attention, params.dense_units) == ("efficientnet_b0", "cbam", 1024)
    assert (params.horizontal_flip, params.cache_features) == (True, False)
    model = new_model("model")
    run(params, tensors=tensors, model=model, tracker=Untracked())
    assert json.loads((model / "training.json").read_text())["weights"]["origin"] == "random"
