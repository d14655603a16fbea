import argparse
import csv
import hashlib
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pydicom
import pytest
from pydicom.errors import InvalidDicomError

from tumorflow.errors import ParameterError, SourceError
from tumorflow.files import read_json
from tumorflow.params import SampleParams
from tumorflow.sampling import command
from tumorflow.sampling.baseline import cross_validate, measure_largest_solid, two_feature_baseline
from tumorflow.sampling.broken import BROKEN
from tumorflow.sampling.cohort import list_patients, scan_patient, slice_path, write_cohort
from tumorflow.sampling.dicom import make_uid, store
from tumorflow.sampling.scanners import SCANNERS, draw_acquisition
from tumorflow.slices import to_hounsfield

SMALL = SampleParams(patients=15, slices_per_patient=3)
SIZE_PX = 96


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    facts = write_cohort(SMALL, folder, SIZE_PX)
    return folder, facts


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_parameters_give_the_same_bytes(cohort, tmp_path):
    folder, facts = cohort
    assert write_cohort(SMALL, tmp_path, SIZE_PX) == facts
    assert hashes(tmp_path) == hashes(folder)


def test_another_seed_gives_other_pictures_and_uids():
    first = list_patients(SMALL)[0]
    (units, dataset), (other_units, other) = (
        next(scan_patient(first, SMALL.model_copy(update={"seed": seed}), SIZE_PX)) for seed in (7, 8)
    )
    assert not np.array_equal(units, other_units)
    assert dataset.SOPInstanceUID != other.SOPInstanceUID


def test_the_layout_tells_no_class(cohort):
    folder, facts = cohort
    with (folder / "labels.csv").open() as file:
        labels = {row["patient_id"]: row["label"] for row in csv.DictReader(file)}
    assert Counter(labels.values()) == {"normal": 5, "benign": 5, "malignant": 5} == facts["patients"]
    assert facts["slices"] == {"normal": 16, "benign": 15, "malignant": 15}
    assert {path.name for path in (folder / "dicom").iterdir()} == set(labels)
    names = " ".join(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert not any(word in names for word in ("normal", "benign", "malignant"))
    assert "research" in (folder / "README.txt").read_text()


def test_headers_are_whole_and_hold_hounsfield_units(cohort):
    folder, _ = cohort
    intercepts, uids, frames = set(), [], {}
    for patient in list_patients(SMALL):
        heights = []
        for number, (units, _) in enumerate(scan_patient(patient, SMALL, SIZE_PX), start=1):
            dataset = pydicom.dcmread(slice_path(folder, patient.patient_id, number))
            shown = to_hounsfield(dataset.pixel_array, dataset.RescaleSlope, dataset.RescaleIntercept)
            np.testing.assert_array_equal(shown, units)
            assert (
                dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage
            )
            assert dataset.PatientID == patient.patient_id
            assert dataset.PatientAge[-1] == "Y"
            assert int(dataset.PatientAge[:3]) == 2024 - int(dataset.PatientBirthDate[:4])
            assert dataset.PixelSpacing[0] * SIZE_PX == pytest.approx(
                dataset.ReconstructionDiameter, rel=1e-4
            )
            assert dataset.HighBit == dataset.BitsStored - 1
            assert 1.0 <= dataset.SliceThickness <= 5.0
            assert not any(kind in str(dataset) for kind in ("benign", "malignant"))
            intercepts.add(int(dataset.RescaleIntercept))
            uids.append(dataset.SOPInstanceUID)
            frames.setdefault(dataset.FrameOfReferenceUID, set()).add(patient.patient_id)
            heights.append(float(dataset.ImagePositionPatient[2]))
        assert heights == sorted(set(heights))
    assert intercepts == {-1024, -8192, 0}
    assert len(set(uids)) == len(uids)
    assert all(len(owners) == 1 for owners in frames.values())


def test_uids_are_valid_and_hang_on_their_parts():
    assert pydicom.uid.UID(make_uid(1, "a")).is_valid
    assert make_uid(1, "a") == make_uid(1, "a") != make_uid(1, "b")


@pytest.mark.parametrize(
    ("scanner", "units", "stored"),
    [
        (SCANNERS[0], [-1024, 0, 3071], [0, 1024, 4095]),
        (SCANNERS[1], [-1024, 0, 3071], [7168, 8192, 11263]),
        (SCANNERS[2], [-1025, 0, 3072], [0, 1024, 4095]),
        (SCANNERS[3], [-1024, 0, 3071], [-1024, 0, 3071]),
    ],
    ids=lambda value: getattr(value, "manufacturer", None),
)
def test_stored_values_are_units_less_the_intercept(scanner, units, stored):
    content = store(np.array(units, np.int16), scanner)
    assert np.frombuffer(content, "<i2" if scanner.signed else "<u2").tolist() == stored


def test_populations_are_alike_in_all_classes_and_independent():
    patients = list_patients(SampleParams())
    for kind in ("normal", "benign", "malignant"):
        drawn = [draw_acquisition(7, patient.position) for patient in patients if patient.kind == kind]
        assert Counter(one.scanner.manufacturer for one in drawn).most_common()[-1][1] == 10
        assert Counter(one.sharpness for one in drawn) == {"soft": 20, "sharp": 20}
        assert Counter(one.sex for one in drawn) == {"F": 20, "M": 20}
        assert set(Counter(one.thickness_mm for one in drawn).values()) <= {13, 14}
        assert len({(one.scanner.manufacturer, one.sharpness, one.sex) for one in drawn}) == 16
    positions = {
        kind: sorted(p.position for p in patients if p.kind == kind) for kind in ("normal", "malignant")
    }
    assert positions["normal"] == positions["malignant"]


def test_ids_do_not_follow_the_classes():
    ordered = [
        patient.kind for patient in sorted(list_patients(SampleParams()), key=lambda one: one.patient_id)
    ]
    assert 0.5 < np.mean([here != there for here, there in pairwise(ordered)]) < 0.85


def test_classes_that_nobody_drew_are_refused():
    with pytest.raises(ParameterError, match="Received: classes cat, dog"):
        list_patients(SampleParams(classes=("cat", "dog")))


def test_two_classes_are_enough():
    kinds = Counter(
        patient.kind for patient in list_patients(SampleParams(classes=("benign", "malignant"), patients=8))
    )
    assert kinds == {"benign": 4, "malignant": 4}


def test_broken_files_are_broken_each_in_its_own_way(cohort):
    folder, facts = cohort
    broken = {path.stem: path for path in (folder / "dicom").rglob("*.dcm") if not path.stem.isdigit()}
    assert sorted(broken) == sorted(BROKEN) == facts["broken_files"]
    assert broken["empty"].stat().st_size == 0
    with pytest.raises(InvalidDicomError):
        pydicom.dcmread(broken["text"])
    with pytest.raises(ValueError, match="bytes"):
        _ = pydicom.dcmread(broken["truncated"]).pixel_array
    assert "RescaleSlope" not in pydicom.dcmread(broken["without_rescale"])
    assert pydicom.dcmread(broken["magnetic_resonance"]).Modality == "MR"
    assert broken["copy"].read_bytes() == broken["copy"].with_name("001.dcm").read_bytes()


def test_one_slice_is_filed_under_another_patient_of_its_class(cohort):
    folder, _ = cohort
    patients = list_patients(SMALL)
    original, twin = patients[0], patients[3]
    assert original.kind == twin.kind
    copy = pydicom.dcmread(slice_path(folder, twin.patient_id, 4))
    units, _ = next(scan_patient(original, SMALL, SIZE_PX))
    shown = to_hounsfield(copy.pixel_array, 1, copy.RescaleIntercept).astype(int)
    assert 0 < np.abs(shown - units).max() <= 1
    assert copy.PatientID == twin.patient_id


def test_the_blob_is_measured_by_size_and_brightness():
    units = np.full((100, 100), -850, np.int16)
    units[:, :20] = 50  # the chest wall reaches the border
    y, x = np.ogrid[:100, :100]
    units[(y - 50) ** 2 + (x - 60) ** 2 <= 10**2] = 30
    units[80, 20:] = 60  # a thin vessel
    diameter_mm, mean_hu = measure_largest_solid(units, 1.0)
    assert diameter_mm == pytest.approx(20.0, abs=1.5)
    assert mean_hu == pytest.approx(30.0, abs=60.0)
    assert measure_largest_solid(np.full((50, 50), -850, np.int16), 1.0) == (0.0, -1000.0)


def test_the_baseline_finds_what_is_there_and_nothing_in_noise():
    random = np.random.default_rng(0)
    labels = ["normal", "benign", "malignant"] * 20
    patients = [str(number // 3) + label for number, label in enumerate(labels)]
    plain = np.array([[{"normal": 0, "benign": 5, "malignant": 10}[label], 0.0] for label in labels])
    assert cross_validate(plain + random.normal(0, 0.1, (60, 2)), labels, patients, 0).macro_f1 == 1.0
    assert cross_validate(random.normal(0, 1, (60, 2)), labels, patients, 0).macro_f1 < 0.6


def test_the_baseline_reads_the_written_cohort(cohort):
    folder, _ = cohort
    found = two_feature_baseline(folder, SMALL.seed)
    assert found.slices == 46
    assert 0.0 < found.macro_f1 < 0.9


def test_a_folder_without_labels_is_no_cohort(tmp_path):
    with pytest.raises(SourceError, match=r"labels\.csv"):
        two_feature_baseline(tmp_path, 7)


def test_the_command_writes_once_and_says_what(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    folder = tmp_path / "sample"
    given = parser.parse_args(["--output", str(folder)])
    params = SampleParams(patients=6)
    assert command.run(given, params) == 0
    assert "two-feature baseline" in capsys.readouterr().out
    before = hashes(folder)
    started = time.perf_counter()
    assert command.run(given, params) == 0
    assert time.perf_counter() - started < 0.2
    assert "nothing to do" in capsys.readouterr().out
    assert hashes(folder) == before
    assert read_json(folder / "cohort.json")["params"]["seed"] == 7
    forced = parser.parse_args(["--output", str(folder), "--force"])
    assert command.run(forced, params) == 0
    assert hashes(folder) == before
    assert command.run(given, SampleParams(patients=6, seed=8)) == 0
    assert read_json(folder / "cohort.json")["params"]["seed"] == 8


def test_the_command_does_not_write_over_other_files(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SourceError, match="--force"):
        command.run(argparse.Namespace(output=str(tmp_path), force=False), SMALL)
    assert (tmp_path / "mine.txt").read_text() == "mine"
