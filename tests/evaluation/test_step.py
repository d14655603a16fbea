import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tumorflow.errors import ParameterError, SourceError
from tumorflow.evaluation.step import run
from tumorflow.params import EvaluateParams
from tumorflow.tracker import Untracked

# Keras 3.15 converts TensorFlow variables without the copy keyword that NumPy 2 asks for
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PARAMS = EvaluateParams(bootstrap_resamples=200)


class Recorder(Untracked):
    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.folders: list[str] = []

    def log_params(self, params: Mapping[str, Any]) -> None:
        self.params |= params

    def log_metrics(self, metrics: Mapping[str, float], epoch: int | None = None) -> None:
        self.metrics |= metrics

    def log_folder(self, folder: Path, name: str) -> None:
        self.folders.append(name)


def evaluate(inputs: dict[str, Path], folder: Path, params: EvaluateParams = PARAMS, **replaced: Path) -> str:
    folder.mkdir(parents=True)
    return run(params, **{**inputs, **replaced}, evaluation=folder, tracker=Untracked())


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def write_index(tensors: Path, index: pd.DataFrame) -> None:
    index.to_parquet(tensors / "index.parquet", index=False)


@pytest.fixture(scope="module")
def evaluated(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder, tracker = tmp_path_factory.mktemp("evaluation"), Recorder()
    decision = run(PARAMS, **inputs, evaluation=folder, tracker=tracker)
    return SimpleNamespace(folder=folder, decision=decision, tracker=tracker)


def test_writes_everything_the_contract_names(evaluated):
    names = {path.relative_to(evaluated.folder).as_posix() for path in evaluated.folder.rglob("*.*")}
    assert names == {
        "decision.json",
        "metrics.json",
        "headline.json",
        "predictions.parquet",
        "populations.csv",
        "report.html",
        *(f"plots/{name}.csv" for name in ("roc", "confusion", "reliability")),
        *(f"plots/{name}.png" for name in ("roc", "confusion", "reliability", "intervals", "history")),
        *(f"plots/gradcam-0{number}.png" for number in range(6)),
    }


def test_decides_and_says_why(evaluated):
    written = read(evaluated.folder / "decision.json")
    assert evaluated.decision == written["decision"] == "accepted"
    assert all(
        set(rule) == {"name", "passed", "observed", "required", "message"} for rule in written["rules"]
    )


def test_metrics_agree_with_the_predictions_written(evaluated):
    table = pd.read_parquet(evaluated.folder / "predictions.parquet")
    written = read(evaluated.folder / "metrics.json")
    assert len(table) == written["about"]["slices"] == 72
    assert written["about"]["groups"] == written["about"]["patients"] == 24
    assert written["accuracy"]["value"] == pytest.approx((table["label"] == table["predicted"]).mean())
    assert 0 < written["accuracy"]["value"] < 1
    assert written["accuracy"]["low"] <= written["accuracy"]["value"] <= written["accuracy"]["high"]
    probabilities = table.filter(like="probability_").to_numpy()
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert list(table["predicted"]) == [
        ("normal", "benign", "malignant")[label] for label in probabilities.argmax(axis=1)
    ]
    assert "patient_macro_f1" in written
    headline = read(evaluated.folder / "headline.json")
    assert {name: written[name]["value"] for name in headline} == headline
    assert {"macro_f1", "macro_auc", "recall_benign"} <= set(headline)


def test_plot_tables_have_the_columns_that_dvc_plots(evaluated):
    plots = evaluated.folder / "plots"
    heads = {
        name: list(pd.read_csv(plots / f"{name}.csv", nrows=0))
        for name in ("roc", "confusion", "reliability")
    }
    assert heads == {
        "roc": ["fpr", "tpr", "class"],
        "confusion": ["actual", "predicted"],
        "reliability": ["confidence", "accuracy", "count"],
    }
    assert len(pd.read_csv(plots / "confusion.csv")) == 72
    assert pd.read_csv(plots / "reliability.csv")["count"].sum() == 72


def test_tracks_values_and_interval_ends(evaluated):
    tracker = evaluated.tracker
    assert tracker.params == {"decision": "accepted"}
    assert tracker.folders == ["evaluation"]
    assert {"macro_f1", "macro_f1_low", "macro_f1_high", "recall_benign"} <= set(tracker.metrics)


def test_the_same_inputs_give_the_same_bytes(inputs, evaluated, tmp_path):
    evaluate(inputs, tmp_path / "again")
    for path in sorted(evaluated.folder.rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(evaluated.folder)).read_bytes(), (
            path.name
        )


def test_figures_do_not_depend_on_pseudonyms(inputs, evaluated, make, tmp_path):
    tensors = make.tensors(tmp_path / "tensors")
    index = pd.read_parquet(tensors / "index.parquet")
    for column in ("slice_id", "group", "patient"):
        index[column] = [f"{hash(name) % 10007:05}-{name[::-1]}" for name in index[column]]
    write_index(tensors, index.sort_values("slice_id"))
    evaluate(inputs, tmp_path / "evaluation", tensors=tensors)
    for name in ("metrics.json", "decision.json", "populations.csv", "report.html"):
        assert (tmp_path / "evaluation" / name).read_bytes() == (evaluated.folder / name).read_bytes()


def test_no_pseudonym_is_in_the_report(evaluated):
    text = (evaluated.folder / "report.html").read_text()
    table = pd.read_parquet(evaluated.folder / "predictions.parquet")
    assert not [name for column in ("slice_id", "patient") for name in table[column] if name in text]


def test_a_poor_model_is_rejected_not_a_failure(inputs, make, tmp_path):
    model = make.model(tmp_path / "model", make.network(sharpness=0.0))
    assert evaluate(inputs, tmp_path / "evaluation", model=model) == "rejected"
    failed = {
        rule["name"]
        for rule in read(tmp_path / "evaluation" / "decision.json")["rules"]
        if not rule["passed"]
    }
    assert {"macro_f1", "macro_auc", "better_than_chance"} <= failed


def test_a_model_that_diverged_is_rejected_not_a_failure(inputs, make, tmp_path):
    model = make.model(tmp_path / "model", make.network(sharpness=float("nan")))
    assert evaluate(inputs, tmp_path / "evaluation", model=model) == "rejected"
    rules = {rule["name"]: rule for rule in read(tmp_path / "evaluation" / "decision.json")["rules"]}
    assert rules["probabilities_finite"]["observed"] == 72
    assert not rules["probabilities_finite"]["passed"]


def test_a_group_in_two_splits_is_rejected(inputs, make, tmp_path):
    tensors = make.tensors(tmp_path / "tensors")
    index = pd.read_parquet(tensors / "index.parquet")
    index.loc[index["group"] == "train-0-0", "group"] = "test-0-0"
    write_index(tensors, index)
    assert evaluate(inputs, tmp_path / "evaluation", tensors=tensors) == "rejected"
    failed = [rule for rule in read(tmp_path / "evaluation" / "decision.json")["rules"] if not rule["passed"]]
    assert [(rule["name"], rule["observed"]) for rule in failed] == [("no_group_spans_splits", 1)]


@pytest.mark.parametrize("missing", [("benign",), ("normal", "benign", "malignant")])
def test_a_class_without_test_slices_is_rejected_not_a_failure(inputs, make, tmp_path, missing):
    tensors = make.tensors(tmp_path / "tensors")
    index = pd.read_parquet(tensors / "index.parquet")
    write_index(tensors, index[(index["split"] != "test") | ~index["label"].isin(missing)])
    assert evaluate(inputs, tmp_path / "evaluation", tensors=tensors) == "rejected"
    written = read(tmp_path / "evaluation" / "metrics.json")
    assert written["recall_benign"] == {"value": None, "low": None, "high": None}
    assert written["macro_f1"]["value"] is None
    assert written["about"]["groups_per_class"]["benign"] == 0


def test_groups_that_are_no_patients_give_no_patient_metrics(inputs, make, tmp_path):
    tensors = make.tensors(tmp_path / "tensors", groups_from="near_duplicates")
    evaluate(inputs, tmp_path / "evaluation", tensors=tensors)
    assert not [
        name for name in read(tmp_path / "evaluation" / "metrics.json") if name.startswith("patient_")
    ]
    assert "The source names no patients" in (tmp_path / "evaluation" / "report.html").read_text()


def test_other_classes_than_the_tensors_are_refused(inputs, tmp_path):
    with pytest.raises(ParameterError, match=r"Received: a, b; the tensors have normal"):
        evaluate(inputs, tmp_path / "evaluation", EvaluateParams(classes=("a", "b")))


def test_a_broken_model_file_is_refused(inputs, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.keras").write_bytes(b"no model")
    with pytest.raises(SourceError, match="loadable Keras file"):
        evaluate(inputs, tmp_path / "evaluation", model=tmp_path / "model")


def test_a_missing_shard_is_refused(inputs, make, tmp_path):
    tensors = make.tensors(tmp_path / "tensors")
    (tensors / "shards" / "shard-00000.npy").unlink()
    with pytest.raises(SourceError, match="points to a slice in a shard"):
        evaluate(inputs, tmp_path / "evaluation", tensors=tensors)
