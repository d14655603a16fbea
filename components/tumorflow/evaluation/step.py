"""Measures the model on the locked test split, explains it, and decides at the gate.

A poor model is a result, not a failure: the decision is written and handed on.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tumorflow import bootstrap, metrics
from tumorflow.bootstrap import Estimate
from tumorflow.errors import ParameterError
from tumorflow.evaluation import (
    comparison,
    gate,
    gradcam,
    plots,
    populations,
    prediction,
    report,
    tables,
    yardstick,
)
from tumorflow.files import read_json, write_bytes, write_json, write_text
from tumorflow.params import EvaluateParams
from tumorflow.tracker import Tracker

if TYPE_CHECKING:
    from tumorflow.evaluation.prediction import TestSplit
    from tumorflow.metrics import Floats


def run(
    params: EvaluateParams,
    *,
    tensors: Path,
    model: Path,
    validation: Path,
    evaluation: Path,
    champion: str = "",
    tracker: Tracker,
) -> str:
    """Returns the gate's decision, `accepted` or `rejected`, and writes everything that led to it.

    `champion` is the registered version that is the yardstick, NAME/VERSION; empty: there is none.

    Raises:
        ParameterError: the tensors were made for other classes, or the champion is no registered version.
        UnavailableError: the champion cannot be fetched.
        SourceError: an input artifact is missing, unreadable or does not fit the others.
    """
    from tumorflow.tensorflow_runtime import configure

    preprocessing = read_json(tensors / "preprocessing.json")
    check_classes(params, preprocessing["classes"])
    index = prediction.read_index(tensors)
    test = prediction.select_test(index)

    keras = configure(params.seed)
    network = prediction.load_model(keras, model, params.classes, preprocessing["image_size_px"])
    answers = prediction.predict(network, tensors, test.table, len(params.classes))
    probabilities, unanswered = prediction.settle(answers)

    measured = bootstrap.estimate(test.truth, probabilities, test.groups, params)
    by_patient: dict[str, Estimate] = {}
    patients = left_out = 0
    if preprocessing["groups_from"] == "patient":
        truth, pooled, left_out = prediction.pool_patients(test.truth, probabilities, test.groups)
        patients = len(truth)
        by_patient = bootstrap.estimate(truth, pooled, np.arange(patients), params)
    compared = populations.compare_populations(test, probabilities, params)
    about = describe(test, preprocessing, params) | {"patients": patients, "patients_left_out": left_out}
    against = None
    if champion:
        against = yardstick.compare_with(
            champion, keras, tensors, test, probabilities, preprocessing, params, tracker
        )
        about["champion"] = comparison.describe(against, params)

    group_leaks, content_leaks = gate.count_leaks(index)
    evidence = gate.Evidence(
        measured, about["groups_per_class"], group_leaks, content_leaks, unanswered, against
    )
    rules = gate.judge(evidence, params)
    decision = gate.decide(rules)

    confusion = metrics.confusion_matrices(
        test.truth, probabilities.argmax(axis=1), np.ones((1, len(test.truth))), len(params.classes)
    )[0].astype(np.int64)
    training = read_json(model / "training.json")
    pictures = draw(test, probabilities, measured, confusion, params)
    history = read_history(model / "history.csv")
    if history:
        pictures["history"] = plots.draw_history(history, training.get("best_epoch"))
    explanations = explain(network, tensors, test, probabilities, params)

    findings = report.Findings(
        decision=decision,
        rules=rules,
        unjudged=gate.list_unjudged(evidence),
        comparison=against,
        metrics=measured,
        patient_metrics=by_patient,
        patients_left_out=left_out,
        about=about,
        populations=compared,
        explanations=explanations,
        pictures=pictures,
        confusion=confusion.tolist(),
        preprocessing=preprocessing,
        training=training,
        warnings=read_json(validation / "report.json")["warnings"],
        lineage=read_lineage(tensors, model, validation),
    )
    write_results(evaluation, findings, test, probabilities, params)

    tracker.log_metrics(tables.flatten({**name_all(findings), **comparison.name_differences(against)}))
    tracker.log_params({"decision": decision} | ({"champion": champion} if champion else {}))
    tracker.log_folder(evaluation, "evaluation")
    return decision


def check_classes(params: EvaluateParams, classes: Sequence[str]) -> None:
    """Raises ParameterError if the tensors have other classes than the parameters."""
    if list(params.classes) != list(classes):
        raise ParameterError(
            f"The classes are those that the tensors were made for, in the same order. Received: "
            f"{', '.join(params.classes)}; the tensors have {', '.join(classes)}. Run preprocessing again."
        )


def headline(metrics_by_name: Mapping[str, Any]) -> dict[str, float | None]:
    """Returns the values that one looks at first, without intervals: a table that fits a terminal."""
    first = ("macro_f1", "macro_auc", "accuracy", "balanced_accuracy", "calibration_error")
    names = [name for name in metrics_by_name if name in first or name.startswith("recall_")]
    return {name: metrics_by_name[name]["value"] for name in names}


def describe(test: "TestSplit", preprocessing: Mapping[str, Any], params: EvaluateParams) -> dict[str, Any]:
    """Returns what metrics.json says about its figures: how intervals were made, and from how many."""
    held = {name: test.groups[test.truth == label] for label, name in enumerate(params.classes)}
    return {
        "confidence_level": params.confidence_level,
        "resamples": params.bootstrap_resamples,
        "bootstrap_unit": "patient"
        if preprocessing["groups_from"] == "patient"
        else "group of near-duplicates",
        "seed": params.seed,
        "calibration_bins": params.calibration_bins,
        "min_population_groups": params.min_population_groups,
        "groups": len(np.unique(test.groups)),
        "slices": len(test.truth),
        "groups_per_class": {name: len(np.unique(groups)) for name, groups in held.items()},
        "slices_per_class": {name: len(groups) for name, groups in held.items()},
    }


def draw(
    test: "TestSplit",
    probabilities: "Floats",
    measured: Mapping[str, Estimate],
    confusion: metrics.Integers,
    params: EvaluateParams,
) -> dict[str, bytes]:
    """Returns the pictures of the results as PNG by name."""
    curves = {
        name: metrics.roc_curve(test.truth == label, probabilities[:, label])
        for label, name in enumerate(params.classes)
    }
    areas = {name: measured[f"auc_{name}"] for name in params.classes}
    # up to 1 each; the classes' calibration errors stand in the table, their names are too long here
    shown = {
        name: item
        for name, item in measured.items()
        if name != "brier" and not name.startswith("calibration_error_")
    }
    return {
        "roc": plots.draw_roc(curves, areas),
        "confusion": plots.draw_confusion(confusion, params.classes),
        "reliability": plots.draw_reliability(
            *metrics.reliability(test.truth, probabilities, params.calibration_bins)
        ),
        "intervals": plots.draw_intervals(shown),
    }


def explain(
    network: Any, tensors: Path, test: "TestSplit", probabilities: "Floats", params: EvaluateParams
) -> list[report.Explanation]:
    """Returns a few test slices with their heat maps; none if the network has no feature map."""
    chosen = gradcam.choose_slices(test.truth, probabilities, test.groups, params.gradcam_slices)
    if len(chosen) == 0:
        return []
    images = prediction.read_slices(tensors, test.table.iloc[chosen])
    heats = gradcam.explain(network, images)
    if heats is None:
        return []
    return [
        report.Explanation(
            plots.draw_heat(image[:, :, 0], heat),
            params.classes[test.truth[at]],
            params.classes[probabilities[at].argmax()],
            float(probabilities[at].max()),
        )
        for at, image, heat in zip(chosen, images, heats, strict=True)
    ]


def name_all(findings: report.Findings) -> dict[str, Estimate]:
    """Returns the metrics of slices, and those of patients by names with `patient_` before them."""
    by_patient = {f"patient_{name}": item for name, item in findings.patient_metrics.items()}
    return {**findings.metrics, **by_patient}


def write_results(
    evaluation: Path,
    findings: report.Findings,
    test: "TestSplit",
    probabilities: "Floats",
    params: EvaluateParams,
) -> None:
    """Writes the whole `evaluation` artifact."""
    metrics_by_name = bootstrap.to_json(name_all(findings))
    champion = findings.comparison.champion if findings.comparison else ""
    write_json(evaluation / "decision.json", gate.to_json(findings.rules, findings.unjudged, champion))
    write_json(evaluation / "metrics.json", {**metrics_by_name, "about": findings.about})
    write_json(evaluation / "headline.json", headline(metrics_by_name))
    predictions = tables.predictions_parquet(test, probabilities, params.classes)
    write_bytes(evaluation / "predictions.parquet", predictions)
    write_text(evaluation / "populations.csv", tables.populations_csv(findings.populations))
    write_text(evaluation / "report.html", report.render(findings))
    folder = evaluation / "plots"
    folder.mkdir()
    for name, rows in tables.plot_tables(test, probabilities, params).items():
        write_text(folder / f"{name}.csv", rows)
    for name, picture in findings.pictures.items():
        write_bytes(folder / f"{name}.png", picture)
    for number, item in enumerate(findings.explanations):
        write_bytes(folder / f"gradcam-{number:02}.png", item.picture)


def read_history(path: Path) -> dict[str, "Floats"]:
    """Returns the columns of history.csv as numbers, empty if the file is missing, empty or another table."""
    needed = {"epoch", "loss", "val_loss", "val_macro_f1"}
    if not path.is_file():
        return {}
    rows = list(csv.DictReader(path.read_text().splitlines()))
    if not rows or not needed <= set(rows[0]):
        return {}
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in needed}


def read_lineage(*inputs: Path) -> dict[str, Any]:
    """Returns the lineage in the records of the inputs, and the commit of the last one."""
    merged: dict[str, Any] = {}
    for folder in inputs:
        if (folder / "record.json").is_file():
            record = read_json(folder / "record.json")
            merged |= record.get("lineage", {})
            merged["git_commit"] = record.get("git_commit", "")
    return merged
