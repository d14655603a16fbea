"""The step: Great Expectations over a manifest, a report, one page, and errors that stop the run."""

import re
import socket

import numpy as np
import pytest

from tumorflow.errors import DataError, SourceError
from tumorflow.files import hash_file, read_json
from tumorflow.params import ValidateParams
from tumorflow.tracker import Untracked
from tumorflow.validation.slice_rules import slice_rules
from tumorflow.validation.step import run
from tumorflow.validation.suite import make_self_contained

PARAMS = ValidateParams()


def broken_rules(report, severity):
    return {finding["rule"] for finding in report[severity]}


def validate(dataset, validation, params=PARAMS):
    return run(params, dataset=dataset, validation=validation, tracker=Untracked())


@pytest.mark.parametrize("kind", ["manifest", "images"])
def test_sound_data_passes(kind, request, write_dataset, validation):
    dataset = write_dataset(request.getfixturevalue(kind))
    assert validate(dataset, validation) == ""
    report = read_json(validation / "report.json")
    assert sorted(report) == ["errors", "expectations", "statistics", "warnings"]
    assert report["errors"] == report["warnings"] == []
    assert all(expectation["success"] for expectation in report["expectations"])
    unit = "HU" if kind == "manifest" else "display"
    expected = {"columns_present", *(rule.name for rule in slice_rules(PARAMS, unit))}
    assert {expectation["name"] for expectation in report["expectations"]} == expected
    counted = "patients" if kind == "manifest" else "distinct_contents"
    assert report["statistics"]["classes"]["benign"] == {
        "slices": 36,
        counted: 12 if kind == "manifest" else 36,
    }


BREAKS = {
    "slice_id_unique": ("slice_id", "slice-1"),
    "path_unique": ("path", "slices/1.dcm"),
    "content_hash_present": ("content_hash", ""),
    "label_known": ("label", "tumour"),
    "patient_known": ("patient", ""),
    "rows_plausible": ("rows", 63),
    "columns_plausible": ("columns", 63),
    "sex_known_code": ("sex", "X"),
    "age_plausible": ("age_years", 91.0),
    "row_spacing_mm_plausible": ("row_spacing_mm", 0.0),
    "column_spacing_mm_plausible": ("column_spacing_mm", 3.1),
    "thickness_plausible": ("slice_thickness_mm", 10.5),
    "rescale_known": ("rescale_slope", np.nan),
    "hounsfield_mean_plausible": ("intensity_mean", 624.0),
    "hounsfield_p99_plausible": ("intensity_p99", -301.0),
}
WARNS = {
    "contrast_present": ("intensity_std", 0.0),
    "spacing_known": ("row_spacing_mm", np.nan),
    "hounsfield_minimum_plausible": ("intensity_min", -4000.0),
    "hounsfield_maximum_plausible": ("intensity_max", -1.0),
    "tube_voltage_plausible": ("tube_voltage_kv", 12.0),
}


def break_all(manifest, breaks):
    for row, (column, value) in enumerate(breaks.values()):
        manifest.loc[10 + row, column] = value
    return manifest


def test_every_error_is_told_at_once_and_the_evidence_is_written(manifest, write_dataset, validation):
    dataset = write_dataset(break_all(manifest, BREAKS))
    with pytest.raises(DataError) as caught:
        validate(dataset, validation)
    report = read_json(validation / "report.json")
    assert broken_rules(report, "errors") == set(BREAKS)
    for error in report["errors"]:
        assert error["message"] in str(caught.value)
        assert error["remedy"] in str(caught.value)
    assert "1 of 108 slices break it, for example 624" in str(caught.value)
    assert (validation / "data_docs" / "index.html").is_file()


def test_warnings_travel_with_the_run(manifest, write_dataset, validation):
    validate(write_dataset(break_all(manifest, WARNS)), validation)
    assert broken_rules(read_json(validation / "report.json"), "warnings") == set(WARNS)


def test_a_missing_column_is_named(manifest, write_dataset, validation):
    with pytest.raises(DataError, match="missing columns: intensity_mean, sex"):
        validate(write_dataset(manifest.drop(columns=["sex", "intensity_mean"])), validation)


def test_an_empty_dataset_is_told_and_does_not_crash(manifest, write_dataset, validation):
    with pytest.raises(DataError, match="no_empty_class"):
        validate(write_dataset(manifest.iloc[:0]), validation)


def test_a_broken_manifest_is_a_source_error(tmp_path, validation):
    (tmp_path / "manifest.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match=r"readable manifest\.parquet"):
        validate(tmp_path, validation)


def test_the_page_needs_no_network_and_the_same_data_gives_the_same_bytes(
    manifest, write_dataset, validation, tmp_path
):
    dataset = write_dataset(break_all(manifest, WARNS))
    again = tmp_path / "again"
    again.mkdir()
    validate(dataset, validation)
    validate(dataset, again)
    for name in ("report.json", "data_docs/index.html"):
        assert hash_file(validation / name) == hash_file(again / name)
    page = (validation / "data_docs" / "index.html").read_text()
    assert "intensity_std" in page
    assert not re.search(r"<script|<link|<img|<iframe|<form|url\(", page)


def test_nothing_calls_home(manifest, write_dataset, validation, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    validate(write_dataset(manifest), validation)


def test_no_patient_is_named(manifest, write_dataset, validation):
    with pytest.raises(DataError) as caught:
        validate(write_dataset(break_all(manifest, BREAKS)), validation)
    assert "patient-" not in str(caught.value)
    assert "patient-" not in (validation / "report.json").read_text()


def test_what_a_run_leaves_out_is_settled_by_a_parameter(manifest, write_dataset, validation):
    manifest.loc[:3, "label"] = ""
    dataset = write_dataset(manifest)
    validate(dataset, validation)
    assert broken_rules(read_json(validation / "report.json"), "warnings") >= {"unlabelled_slices"}
    with pytest.raises(DataError, match="4 of 108"):
        run(
            ValidateParams(max_unlabelled_fraction=0.0),
            dataset=dataset,
            validation=write_again(validation),
            tracker=Untracked(),
        )


def write_again(validation):
    folder = validation.parent / "second"
    folder.mkdir()
    return folder


def test_the_report_goes_to_the_tracker_before_the_run_stops(manifest, write_dataset, validation):
    class Notes(Untracked):
        def __init__(self):
            self.metrics, self.files = {}, []

        def log_metrics(self, metrics, epoch=None):
            self.metrics.update(metrics)

        def log_folder(self, folder, name):
            self.files += sorted(path.name for path in folder.rglob("*.*"))

    notes = Notes()
    manifest.loc[0, "rows"] = 1
    with pytest.raises(DataError, match="rows_plausible"):
        run(PARAMS, dataset=write_dataset(manifest), validation=validation, tracker=notes)
    assert notes.metrics == {"errors": 1.0, "warnings": 0.0}
    assert notes.files == ["index.html", "report.json"]


def test_parts_numbered_at_random_get_fixed_numbers():
    one, other = (
        f"<head></head><a href='#{uuid}'><div id='{uuid}'>"
        for uuid in ("69ada07e-8a11-48b7-9b9d-e89f68885073", "015ebb65-1ab3-400f-bbe3-a578c499b6f8")
    )
    assert make_self_contained(one) == make_self_contained(other)
