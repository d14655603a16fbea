import json
import shutil
import zipfile
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from tumorflow.errors import ParameterError
from tumorflow.export.inputs import ShardSlices, draw_representative
from tumorflow.export.step import run
from tumorflow.files import read_json, write_json
from tumorflow.litert import Classifier
from tumorflow.membership import digest, read_members
from tumorflow.model_file import unpack
from tumorflow.params import ExportParams
from tumorflow.tracker import RegisteredVersion, Untracked

CLASSES = ("normal", "benign", "malignant")
PARAMS = ExportParams(calibration_slices=4, variants=("float32", "dynamic"))


class Registry(Untracked):
    """Keeps what would be registered."""

    def register_model(self, registration):
        self.registration = registration
        self.evidence = {
            path.relative_to(registration.evidence["evidence"]).as_posix()
            for path in registration.evidence["evidence"].rglob("*.*")
        }
        self.members = read_members(registration.evidence["evidence"] / "groups.parquet")
        aliases = (registration.alias,) if registration.alias else ()
        return RegisteredVersion(registration.name, "1", aliases, "run-1")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Artifacts of a tiny network, its answers on eight test slices among them."""
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=2)
    place = tmp_path_factory.mktemp("inputs")
    folders = {name: place / name for name in ("tensors", "model", "evaluation")}
    for folder in folders.values():
        folder.mkdir()
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(x))
    network.save(folders["model"] / "model.keras")
    write_json(folders["model"] / "training.json", {"backbone": "tiny"})

    slices = np.random.default_rng(1).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
    (folders["tensors"] / "shards").mkdir()
    np.save(folders["tensors"] / "shards" / "shard-00000.npy", slices)
    index = pd.DataFrame(
        {
            "slice_id": [f"s{number}" for number in range(12)],
            "shard": "shard-00000.npy",
            "row": range(12),
            "split": ["train"] * 2 + ["validation"] * 2 + ["test"] * 8,
            "label": [CLASSES[number % 3] for number in range(12)],
            "slice_thickness_mm": 2.5,
            "group": [f"group-{number // 2}" for number in range(12)],
            "patient": [f"P-{number // 2}" for number in range(12)],
            "content_hash": [f"{number:064}" for number in range(12)],
        }
    )
    index.to_parquet(folders["tensors"] / "index.parquet")
    write_json(
        folders["tensors"] / "preprocessing.json",
        {
            "split_hash": "s" * 64,
            "method": "windows",
            "image_size_px": 16,
            "windows": [{"window_center_hu": 40, "window_width_hu": 400}],
            "intensity_unit": "HU",
            "air": [0, 0, 0],
        },
    )

    answers = network.predict(slices[4:][::-1].astype(np.float32), verbose=0)
    predictions = pd.DataFrame(answers, columns=[f"probability_{name}" for name in CLASSES])
    predictions.insert(0, "slice_id", [f"s{number}" for number in range(11, 3, -1)])
    predictions.to_parquet(folders["evaluation"] / "predictions.parquet")
    (folders["evaluation"] / "report.html").write_text("<p>report</p>")
    write_json(folders["evaluation"] / "metrics.json", {"macro_f1": {"value": 0.5, "low": 0.4, "high": 0.6}})
    (folders["evaluation"] / "plots").mkdir()
    cv2.imwrite(str(folders["evaluation"] / "plots" / "roc.png"), np.zeros((90, 100, 3), np.uint8))
    lineage = {"data_hash": "d" * 32, "train": {"params_hash": "p", "content_hash": "c"}}
    record = {"git_commit": "g" * 40, "image": "sha256:" + "1" * 64, "lineage": lineage}
    write_json(folders["evaluation"] / "record.json", record)
    return folders


def export(inputs, folder, gate="accepted", params=PARAMS, alias="candidate"):
    rules = [
        {"name": "macro_f1", "passed": gate == "accepted", "observed": 0.5, "required": 0.4, "message": ""}
    ]
    unjudged = [{"name": "not_worse_than_champion", "message": "Not judged: few groups."}]
    decided = {"decision": gate, "champion": "tiny/3", "rules": rules, "not_judged": unjudged}
    write_json(inputs["evaluation"] / "decision.json", decided)
    folder.mkdir()
    registry = Registry()
    told = run(params, **inputs, release=folder, alias=alias, registry="", tracker=registry)
    return SimpleNamespace(told=json.loads(told), registry=registry, folder=folder)


def test_an_accepted_model_is_released_with_its_evidence(inputs, tmp_path):
    done = export(inputs, tmp_path / "release")
    assert done.told["decision"] == "accepted"
    assert [rule["name"] for rule in done.told["rules"]] == [
        "macro_f1",
        "tflite_float32_label_agreement",
        "tflite_float32_probability_difference",
        "tflite_float32_logit_difference",
        "tflite_float32_class_agreement",
        "tflite_float32_auc_change",
        "tflite_float32_calibration_change",
    ]
    assert [rule["name"] for rule in done.told["not_judged"]] == ["not_worse_than_champion"]
    assert done.told["model"] == {
        "name": "tumorflow-ct",
        "version": "1",
        "aliases": ["candidate"],
        "run_id": "run-1",
    }
    assert {path.name for path in (done.folder / "tflite").iterdir()} == {
        "model_float32.tflite",
        "model_dynamic.tflite",
    }
    assert {"evaluation/report.html", "release/decision.json", "lineage.json"} <= done.registry.evidence
    tags = done.registry.registration.tags
    assert tags["tumorflow.decision"] == "accepted"
    assert tags["tumorflow.data_hash"] == "d" * 32
    assert tags["tumorflow.git_commit"] == "g" * 40
    assert tags["tumorflow.image"] == "sha256:" + "1" * 64
    assert tags["tumorflow.split_hash"] == "s" * 64
    assert tags["tumorflow.champion"] == "tiny/3"
    assert tags["tumorflow.not_judged"] == "not_worse_than_champion"
    told = done.registry.registration.describe("7", "run-1")
    assert told.startswith("**Accepted by the gate**: all 7 rules passed, 1 without a verdict.")
    assert "| Macro-F1&emsp; | 0.500 (0.400 to 0.600) |" in told
    assert "(get-artifact?path=evidence/overview.png&run_uuid=run-1)" in told
    assert "overview.png" in done.registry.evidence
    members = done.registry.members
    assert members.groupby("split")["group"].nunique().to_dict() == {"train": 1, "validation": 1, "test": 4}
    trained_on = {digest("patient", "P-0")}
    assert set(members[members["split"] == "train"]["patient"]) == trained_on


def test_a_rejected_model_is_registered_without_an_alias(inputs, tmp_path):
    done = export(inputs, tmp_path / "release", gate="rejected")
    assert done.told["decision"] == "rejected"
    assert done.registry.registration.alias == ""
    told = done.registry.registration.describe("7", "run-1")
    assert told.startswith("**Rejected by the gate**: 1 of 7 rules failed")
    assert "- **failed** macro_f1" in told


def test_missing_parity_takes_an_acceptance_back(inputs, tmp_path):
    predictions = pd.read_parquet(inputs["evaluation"] / "predictions.parquet")
    columns = [f"probability_{name}" for name in CLASSES]
    predictions[columns] = np.eye(3)[predictions[columns].to_numpy().argmin(axis=1)]
    changed = {**inputs, "evaluation": tmp_path / "evaluation"}
    changed["evaluation"].mkdir()
    for name in ("report.html", "record.json", "metrics.json"):
        (changed["evaluation"] / name).write_bytes((inputs["evaluation"] / name).read_bytes())
    predictions.to_parquet(changed["evaluation"] / "predictions.parquet")
    done = export(changed, tmp_path / "release")
    assert done.told["decision"] == "rejected"
    assert done.registry.registration.alias == ""
    assert (done.folder / "tflite" / "model_float32.tflite").is_file(), "the evidence stays"
    assert not (done.folder / "tflite" / "model_dynamic.tflite").exists(), "a file that is not required goes"


def test_the_reviewers_alias_is_refused(inputs, tmp_path):
    with pytest.raises(ParameterError, match="champion"):
        export(inputs, tmp_path / "release", alias="champion")


def test_an_evaluation_from_before_images_were_recorded_can_be_exported(inputs, tmp_path):
    older = shutil.copytree(inputs["evaluation"], tmp_path / "evaluation")
    record = read_json(older / "record.json")
    del record["image"]
    write_json(older / "record.json", record)
    done = export({**inputs, "evaluation": older}, tmp_path / "release")
    assert "tumorflow.image" not in done.registry.registration.tags


def test_every_variant_says_itself_how_to_use_it(inputs, tmp_path):
    # eight slices, and a network that has learned nothing: a tie that breaks changes the AUC
    params = ExportParams(calibration_slices=4, max_auc_loss=1.0)
    done = export(inputs, tmp_path / "release", params=params)
    files = sorted((done.folder / "tflite").iterdir())
    assert [file.stem for file in files] == ["model_dynamic", "model_float16", "model_float32", "model_int8"]
    for file in files:
        content = file.read_bytes()
        said = unpack(content)
        assert said.about["variant"] == file.stem.removeprefix("model_")
        assert said.about["classes"] == list(CLASSES)
        assert said.about["preprocessing"]["windows"] == [{"window_center_hu": 40, "window_width_hu": 400}]
        assert said.about["slice_thickness_mm"] == [2.5, 2.5]
        with zipfile.ZipFile(file) as archive:
            assert archive.read("labels.txt").decode().split() == list(CLASSES)
        answer = Classifier(content).answer(np.full((16, 16, 3), 90, np.uint8))
        assert answer.probabilities.sum() == pytest.approx(1, abs=0.02)
        assert answer.feature_map.shape == (14, 14, 8)
        assert said.arrays["feature_mean"].shape == (8,)
    speeds = read_json(done.folder / "speed.json")
    assert {name: set(each) for name, each in speeds.items()} == {
        file.stem.removeprefix("model_"): {"1", "2"} for file in files
    }
    assert all(each["1"]["median_ms"] > 0 for each in speeds.values())
    page = (done.folder / "variants.html").read_text()
    assert all(f'<th scope="row">{name}</th>' in page for name in speeds)
    assert "not for clinical" in page


def test_the_same_release_has_the_same_fingerprint_however_fast_it_was(inputs, tmp_path):
    first, second = (
        export(inputs, tmp_path / name, params=ExportParams(variants=("float32",))).registry.registration
        for name in ("first", "second")
    )
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != export(inputs, tmp_path / "third").registry.registration.fingerprint


def test_tensorflow_loads_the_saved_model_and_gets_the_same_answer(inputs, tmp_path):
    import tensorflow as tf

    done = export(inputs, tmp_path / "release")
    served = tf.saved_model.load(done.folder / "saved_model")
    pixels = np.full((1, 16, 16, 3), 90, np.float32)
    expected = Classifier((done.folder / "tflite" / "model_float32.tflite").read_bytes()).answer(
        pixels[0].astype(np.uint8)
    )
    assert served.serve(pixels).numpy()[0] == pytest.approx(expected.probabilities, abs=1e-5)


def test_representative_slices_come_from_each_class_and_group_in_turn(tmp_path):
    (tmp_path / "shards").mkdir()
    np.save(tmp_path / "shards" / "shard.npy", np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1))
    index = pd.DataFrame(
        {
            "shard": "shard.npy",
            "row": range(8),
            "split": ["train"] * 7 + ["test"],
            "label": ["a", "a", "a", "b", "b", "a", "b", "b"],
            "group": ["p", "p", "q", "r", "r", "p", "s", "s"],
        }
    )
    drawn = draw_representative(index, "train", 6)
    assert [int(pixels[0, 0, 0]) for pixels in ShardSlices(tmp_path, drawn)] == [0, 3, 2, 6, 1, 4]
