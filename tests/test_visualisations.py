import json

import pandas as pd
import pytest
from kfp import dsl

from tumorflow import visualisations


@pytest.fixture
def evaluation(tmp_path):
    """An evaluation of four slices, worked out by hand."""
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "headline.json").write_text(json.dumps({"macro_f1": 0.75, "undefined": None}))
    (folder / "report.html").write_text("<html>report</html>")
    pd.DataFrame(
        {
            "label": ["benign", "benign", "malignant", "malignant"],
            "predicted": ["benign", "malignant", "malignant", "malignant"],
            "probability_benign": [0.9, 0.4, 0.3, 0.1],
            "probability_malignant": [0.1, 0.6, 0.7, 0.9],
        }
    ).to_parquet(folder / "predictions.parquet")
    return folder


def test_kubeflow_is_shown_numbers_curve_matrix_and_report(evaluation, tmp_path):
    artifacts = {
        "metrics": dsl.Metrics(uri=str(tmp_path / "metrics")),
        "roc": dsl.ClassificationMetrics(uri=str(tmp_path / "roc")),
        "confusion": dsl.ClassificationMetrics(uri=str(tmp_path / "confusion")),
        "report": dsl.HTML(uri=str(tmp_path / "report")),
    }
    visualisations.show(str(evaluation), ["benign", "malignant"], **artifacts)
    assert artifacts["metrics"].metadata == {"macro_f1": 0.75}
    curve = artifacts["roc"].metadata["confidenceMetrics"]
    assert [(p["falsePositiveRate"], p["recall"], p["confidenceThreshold"]) for p in curve] == [
        (0.0, 0.0, 1.0),
        (0.0, 0.5, 0.9),
        (0.0, 1.0, 0.7),
        (0.5, 1.0, 0.6),
        (1.0, 1.0, 0.1),
    ]
    rows = artifacts["confusion"].metadata["confusionMatrix"]
    assert [entry["displayName"] for entry in rows["annotationSpecs"]] == ["benign", "malignant"]
    assert [row["row"] for row in rows["rows"]] == [[1, 1], [0, 2]]
    assert (tmp_path / "report").read_text() == "<html>report</html>"
    for name in ("metrics", "roc", "confusion"):
        assert (tmp_path / name).is_file(), "without a file kfp's cache never finds the step"


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    scores = [number / 2000 for number in range(2000)]
    truth = ["a" if number % 3 else "b" for number in range(2000)]
    curve = visualisations.trace_curve(truth, scores, "a")
    assert len(curve["fpr"]) == visualisations.CURVE_POINTS
    assert (curve["fpr"][0], curve["tpr"][0]) == (0.0, 0.0)
    assert (curve["fpr"][-1], curve["tpr"][-1]) == (1.0, 1.0)


def test_a_class_that_is_not_in_the_test_set_has_no_curve():
    assert visualisations.trace_curve(["a"], [0.5], "b") == {"fpr": [], "tpr": [], "threshold": []}
