"""Rules on the whole: each broken on its own, and none on sound data."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tumorflow.params import ValidateParams
from tumorflow.validation.cohort_rules import cohort_findings

PARAMS = ValidateParams()


def found(manifest, params=PARAMS):
    return {(finding.rule, finding.severity) for finding in cohort_findings(manifest, params)}


def message(manifest, rule, params=PARAMS):
    (finding,) = [finding for finding in cohort_findings(manifest, params) if finding.rule == rule]
    return finding.message


def test_sound_data_breaks_no_rule(manifest, images):
    assert found(manifest) == set()
    assert found(images) == set()


def test_an_empty_class_is_named(manifest):
    some = manifest[manifest["label"] != "benign"]
    assert found(some) == {("no_empty_class", "error"), ("enough_data", "warning")}
    assert "none of benign" in message(some, "no_empty_class")


def test_one_class_only_cannot_be_learned(manifest):
    params = ValidateParams(classes=("normal", "benign"))
    some = manifest[manifest["label"] == "normal"]
    assert ("several_classes", "error") in found(some, params)
    assert "Received: 'normal'." in message(some, "several_classes", params)


def test_a_class_with_fewer_patients_than_splits_is_named(manifest):
    patients = [f"patient-{n}" for n in range(14, 24)]
    some = manifest[~manifest["patient"].isin(patients)]
    assert ("patients_per_class", "error") in found(some)
    assert "'benign' has 2" in message(some, "patients_per_class")


def test_distinct_images_count_where_there_are_no_patients(images):
    images.loc[images["label"] == "benign", "content_hash"] = "a" * 64
    assert "distinct images" in message(images, "patients_per_class")


def test_two_patients_without_labels_cannot_be_split(manifest):
    some = manifest[manifest["patient"].isin(["patient-0", "patient-1"])].assign(label="")
    assert {rule for rule, severity in found(some) if severity == "error"} == {
        "unlabelled_slices", "several_classes", "no_empty_class", "splittable",
    }  # fmt: skip
    assert "Received: 2: this data cannot be split." in message(some, "splittable")


def test_some_unlabelled_slices_are_a_warning_and_many_an_error(manifest):
    manifest.loc[:9, "label"] = ""
    assert ("unlabelled_slices", "warning") in found(manifest)
    assert ("unlabelled_slices", "error") in found(manifest, ValidateParams(max_unlabelled_fraction=0.01))


def test_a_patient_under_several_labels_is_counted(manifest):
    manifest.loc[0, "label"] = "benign"
    assert found(manifest) == {("one_label_a_patient", "warning")}
    assert "1 of 36" in message(manifest, "one_label_a_patient")


def test_an_image_under_two_patients_and_labels_is_a_warning(manifest):
    manifest.loc[0, "content_hash"] = manifest["content_hash"].iloc[-1]
    assert found(manifest) == {("content_of_one_patient", "warning"), ("one_label_a_content", "warning")}


def test_a_scanner_of_one_class_is_a_shortcut(manifest):
    manifest.loc[manifest["label"] == "malignant", "manufacturer"] = "TOSHIBA"
    assert found(manifest) == {("shortcut_manufacturer", "warning")}
    assert "TOSHIBA only in 'malignant' (12 patients)" in message(manifest, "shortcut_manufacturer")


def test_an_image_size_of_one_class_is_a_shortcut(images):
    images.loc[images.index[-6:], "columns"] = 801
    assert "512×801 only in 'malignant' (6 distinct images)" in message(images, "shortcut_size")


def test_one_odd_patient_is_no_shortcut(manifest):
    manifest.loc[manifest["patient"] == "patient-0", "manufacturer"] = "TOSHIBA"
    assert found(manifest) == set()


def test_mixed_units_are_an_error(manifest):
    manifest.loc[0, "intensity_unit"] = "display"
    assert ("one_intensity_unit", "error") in found(manifest)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.integers(3, 40), st.integers(3, 40))
def test_asking_for_more_patients_never_mends_the_data(manifest, one, other):
    rule = ("patients_per_class", "error")
    few, many = (
        rule in found(manifest, ValidateParams(min_patients_per_class=least))
        for least in sorted((one, other))
    )
    assert few <= many
