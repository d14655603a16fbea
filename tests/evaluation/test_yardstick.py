import json

import numpy as np
import pandas as pd
import pytest

from tumorflow.errors import UnavailableError
from tumorflow.evaluation import prediction, yardstick
from tumorflow.evaluation.step import run
from tumorflow.membership import describe_members
from tumorflow.params import EvaluateParams
from tumorflow.tracker import Untracked

# Keras 3.15 converts TensorFlow variables without the copy keyword that NumPy 2 asks for
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LENIENT = EvaluateParams(
    bootstrap_resamples=100,
    gradcam_slices=0,
    min_macro_f1=0.0,
    min_macro_auc=0.0,
    min_class_recall=0.0,
    max_calibration_error=1.0,
    require_better_than_chance=False,
)


@pytest.fixture
def champion(inputs, make, tmp_path):
    """A registry whose version is the inputs' model, trained on their training split."""
    return make.registry(tmp_path / "version", inputs)


def evaluate(inputs, folder, registry, params=LENIENT, champion="tiny/3", **replaced):
    folder.mkdir()
    return run(params, **{**inputs, **replaced}, evaluation=folder, champion=champion, tracker=registry)


def compare(inputs, registry):
    """The comparison of a model that is always right."""
    from tumorflow.tensorflow_runtime import configure

    test = prediction.select_test(prediction.read_index(inputs["tensors"]))
    facts = json.loads((inputs["tensors"] / "preprocessing.json").read_text())
    right = np.eye(3)[test.truth]
    return yardstick.compare_with(
        "tiny/3", configure(7), inputs["tensors"], test, right, facts, LENIENT, registry
    )


def read(folder, name):
    return json.loads((folder / name).read_text())


def rules(folder):
    return {rule["name"]: rule for rule in read(folder, "decision.json")["rules"]}


def test_a_model_equal_to_the_champion_is_accepted(inputs, champion, tmp_path):
    assert evaluate(inputs, tmp_path / "evaluation", champion) == "accepted"
    rule = rules(tmp_path / "evaluation")["not_worse_than_champion"]
    assert (rule["passed"], rule["observed"], rule["required"]) == (True, 0.0, -0.1)
    about = read(tmp_path / "evaluation", "metrics.json")["about"]["champion"]
    assert (about["champion"], about["margin"], about["not_judged"]) == ("tiny/3", 0.1, "")
    assert about["unseen"]["groups"] == about["all"]["groups"] == 24
    assert champion.metrics["macro_f1_minus_champion_low"] == 0
    assert champion.params["champion"] == "tiny/3"
    assert "Against the champion" in (tmp_path / "evaluation" / "report.html").read_text()


def test_a_model_worse_than_the_champion_is_rejected_for_that_alone(inputs, champion, make, tmp_path):
    model = make.model(tmp_path / "model", make.network(sharpness=0.0))
    assert evaluate(inputs, tmp_path / "evaluation", champion, model=model) == "rejected"
    failed = [rule for rule in rules(tmp_path / "evaluation").values() if not rule["passed"]]
    assert [rule["name"] for rule in failed] == ["not_worse_than_champion"]
    assert -1 < failed[0]["observed"] < -0.1


def test_too_few_unseen_groups_leave_the_rule_without_a_verdict(inputs, champion, tmp_path):
    index = pd.read_parquet(inputs["tensors"] / "index.parquet")
    index.loc[index["label"] == "benign", "split"] = "train"
    describe_members(index).to_parquet(champion.folder / "evidence" / "groups.parquet")
    assert evaluate(inputs, tmp_path / "evaluation", champion) == "accepted"
    decision = read(tmp_path / "evaluation", "decision.json")
    assert decision["champion"] == "tiny/3"
    assert "not_worse_than_champion" not in {rule["name"] for rule in decision["rules"]}
    (unjudged,) = decision["not_judged"]
    assert unjudged["name"] == "not_worse_than_champion"
    assert "16 groups unseen by the champion (8 of normal, 0 of benign" in unjudged["message"]
    assert unjudged["message"] in (tmp_path / "evaluation" / "report.html").read_text()


def test_groups_that_the_champion_learned_from_do_not_judge(inputs, champion):
    index = pd.read_parquet(inputs["tensors"] / "index.parquet")
    index.loc[index["group"].isin(["test-0-0", "test-1-0", "test-1-1"]), "split"] = "train"
    index.loc[index["group"] == "test-2-0", "split"] = "validation"
    describe_members(index).to_parquet(champion.folder / "evidence" / "groups.parquet")
    found = compare(inputs, champion)
    assert found.judged.groups_per_class == {"normal": 7, "benign": 6, "malignant": 7}
    assert found.everyone.groups == 24
    assert found == compare(inputs, champion)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_size_px": 64}, "another input (image_size_px)"),
        ({"windows": [], "method": "article"}, "another input (method, windows)"),
        ({"classes": ["malignant", "benign", "normal"]}, "another input (classes)"),
        ({"intensity_unit": "display"}, "another input (intensity_unit)"),
    ],
)
def test_a_champion_of_another_input_is_not_asked(inputs, champion, change, reason):
    recipe = champion.folder / "evidence" / "preprocessing.json"
    recipe.write_text(json.dumps(json.loads(recipe.read_text()) | change))
    found = compare(inputs, champion)
    assert reason in found.not_judged
    assert (found.unseen, found.everyone) == (None, None)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("evidence/groups.parquet", "keeps no record of what it was trained on"),
        ("evidence/preprocessing.json", "keeps no record of the input"),
        ("model.keras", "cannot be loaded"),
    ],
)
def test_a_version_that_lacks_evidence_is_not_judged(inputs, champion, missing, reason):
    (champion.folder / missing).unlink()
    assert reason in compare(inputs, champion).not_judged


def test_a_champion_file_that_holds_code_is_not_run(inputs, champion):
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=1)
    images = keras.Input((32, 32, 3))
    answer = keras.layers.Lambda(lambda x: x[:, 0, 0, :] * 0 + 1 / 3, output_shape=(3,))(images)
    keras.Model(images, answer).save(champion.folder / "model.keras")
    assert "cannot be loaded" in compare(inputs, champion).not_judged


def test_without_a_registry_there_is_no_yardstick(inputs, tmp_path):
    with pytest.raises(UnavailableError, match="tiny/3"):
        evaluate(inputs, tmp_path / "evaluation", Untracked())


def test_without_a_champion_nothing_is_asked(inputs, tmp_path):
    evaluate(inputs, tmp_path / "evaluation", Untracked(), champion="")
    assert "champion" not in read(tmp_path / "evaluation", "metrics.json")["about"]
    assert read(tmp_path / "evaluation", "decision.json")["not_judged"] == []
    assert not np.any(["champion" in name for name in rules(tmp_path / "evaluation")])
