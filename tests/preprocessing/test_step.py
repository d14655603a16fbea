"""The step as a whole, on small datasets of DICOM and PNG slices."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from tumorflow.errors import DataError, SourceError
from tumorflow.files import hash_file, read_json, write_json
from tumorflow.membership import describe_members
from tumorflow.params import PreprocessParams
from tumorflow.preprocessing.step import run
from tumorflow.slices import read_intensities
from tumorflow.tensors import to_tensor
from tumorflow.tracker import RegisteredVersion, Untracked

CLASSES = ("normal", "benign", "malignant")
PARAMS = PreprocessParams(image_size_px=32, shard_slices=7)


def ct_slices(patients_per_class=5, slices_per_patient=3, size=96):
    generator = np.random.default_rng(0)
    return [
        (generator.normal(40, 30, (size, size)).astype(np.int16), f"{label}{patient}", label)
        for label in CLASSES
        for patient in range(patients_per_class)
        for _ in range(slices_per_patient)
    ]


def grey_slices(scans_per_class=4, slices_per_scan=3):
    """Scans of images without patients: neighbours differ by a little noise."""
    generator = np.random.default_rng(0)
    slices = []
    for label in CLASSES:
        for _ in range(scans_per_class):
            scan = generator.integers(0, 200, (80, 80))
            for _ in range(slices_per_scan):
                slices.append(((scan + generator.integers(0, 30, scan.shape)).astype(np.uint8), "", label))
    return slices


def test_tensors_lie_where_the_index_says(write_dataset, validation, tensors):
    dataset = write_dataset(ct_slices())
    assert run(PARAMS, dataset=dataset, validation=validation, tensors=tensors, tracker=Untracked()) == ""
    index = pd.read_parquet(tensors / "index.parquet")
    manifest = pd.read_parquet(dataset / "manifest.parquet").set_index("slice_id")
    assert sorted(index["slice_id"]) == sorted(manifest.index)
    for row in index.itertuples():
        shard = np.load(tensors / "shards" / row.shard, allow_pickle=False)
        assert shard.dtype == np.uint8
        assert len(shard) <= 7
        intensities = read_intensities(dataset / manifest.loc[row.slice_id, "path"])
        expected = to_tensor(intensities, unit="HU", image_size_px=32, windows=PARAMS.windows)
        assert np.array_equal(shard[row.row], expected)
        assert CLASSES[row.label_index] == row.label == manifest.loc[row.slice_id, "label"]
    assert sorted(path.name for path in tensors.iterdir()) == [
        "index.parquet",
        "preprocessing.json",
        "shards",
    ]


def test_no_patient_spans_splits_and_the_counts_are_told(write_dataset, validation, tensors):
    run(
        PARAMS,
        dataset=write_dataset(ct_slices()),
        validation=validation,
        tensors=tensors,
        tracker=Untracked(),
    )
    index = pd.read_parquet(tensors / "index.parquet")
    assert (index.groupby("patient")["split"].nunique() == 1).all()
    about = read_json(tensors / "preprocessing.json")
    assert about["groups_from"] == "patient"
    assert about["groups"]["train"] == {"normal": 3, "benign": 3, "malignant": 3}
    assert about["slices"]["test"] == {"normal": 3, "benign": 3, "malignant": 3}
    assert about["air"] == [60, 0, 0]
    assert about["windows"][0] == {"window_center_hu": -600.0, "window_width_hu": 1500.0}


class Registry(Untracked):
    """Has the version tiny/3, whose evidence names the members of an index."""

    def __init__(self, index):
        self.index = index

    def fetch_version(self, name, version, folder, files):
        for file in files:
            (folder / file).parent.mkdir(parents=True)
            describe_members(self.index).to_parquet(folder / file)
        return RegisteredVersion(name, version)


def test_the_champions_test_set_stays_locked_when_patients_come(write_dataset, validation, tmp_path):
    slices = ct_slices(patients_per_class=7, slices_per_patient=1, size=32)
    known = [item for item in slices if not item[1].endswith(("5", "6"))]

    def split(name, items, **settings):
        (tmp_path / f"tensors-{name}").mkdir()
        dataset = write_dataset(items, name)
        run(PARAMS, dataset=dataset, validation=validation, tensors=tmp_path / f"tensors-{name}", **settings)
        return pd.read_parquet(tmp_path / f"tensors-{name}" / "index.parquet")

    before = split("before", known, tracker=Untracked())
    after = split("after", slices, tracker=Registry(before), champion="tiny/3")
    former = before.groupby("patient")["split"].first()
    assert after.groupby("patient")["split"].first()[former.index].equals(former)
    assert after["patient"].nunique() == 21


def test_training_slices_are_shuffled_in_the_index_and_lie_by_content(write_dataset, validation, tensors):
    run(
        PARAMS,
        dataset=write_dataset(ct_slices()),
        validation=validation,
        tensors=tensors,
        tracker=Untracked(),
    )
    index = pd.read_parquet(tensors / "index.parquet")
    training = index[index["split"] == "train"]
    assert training["content_hash"].tolist() != sorted(training["content_hash"])
    assert (index.index[index["split"] == "train"] < index.index[index["split"] == "test"].min()).all()
    assert index.sort_values(["shard", "row"])["content_hash"].is_monotonic_increasing


def test_patients_who_share_a_nearly_equal_slice_stay_together(write_dataset, validation, tensors):
    slices = ct_slices()
    copied, _, _ = slices[0]
    noisy = copied + np.random.default_rng(9).normal(0, 3, copied.shape).astype(np.int16)
    slices.append((noisy, "normal4", "normal"))
    run(PARAMS, dataset=write_dataset(slices), validation=validation, tensors=tensors, tracker=Untracked())
    index = pd.read_parquet(tensors / "index.parquet").set_index("patient")
    assert index.loc["normal0", "group"].iloc[0] == index.loc["normal4", "group"].iloc[0]
    assert index["group"].nunique() == 14


def test_images_without_patients_are_grouped_by_near_duplicates(write_dataset, validation, tensors):
    run(
        PARAMS,
        dataset=write_dataset(grey_slices()),
        validation=validation,
        tensors=tensors,
        tracker=Untracked(),
    )
    index = pd.read_parquet(tensors / "index.parquet")
    assert index["group"].nunique() == 12
    assert (index.groupby("group").size() == 3).all()
    assert (index.groupby("group")["split"].nunique() == 1).all()
    about = read_json(tensors / "preprocessing.json")
    assert (about["groups_from"], about["intensity_unit"], about["air"]) == (
        "near_duplicates",
        "display",
        [0, 0, 0],
    )


def test_the_same_seed_gives_the_same_bytes_whatever_the_pseudonyms(write_dataset, validation, tmp_path):
    slices = ct_slices()
    renamed = [(image, f"other-{hash(patient)}", label) for image, patient, label in reversed(slices)]
    outputs = []
    for name, some in (("one", slices), ("two", renamed)):
        output = tmp_path / f"tensors-{name}"
        output.mkdir()
        dataset = write_dataset(some, name)
        run(PARAMS, dataset=dataset, validation=validation, tensors=output, tracker=Untracked())
        outputs.append(output)
    for path in sorted((outputs[0] / "shards").iterdir()):
        assert hash_file(path) == hash_file(outputs[1] / "shards" / path.name)
    assert read_json(outputs[0] / "preprocessing.json") == read_json(outputs[1] / "preprocessing.json")


def test_the_article_is_a_method(write_dataset, validation, tensors):
    params = PARAMS.model_copy(update={"method": "article"})
    run(
        params,
        dataset=write_dataset(ct_slices()),
        validation=validation,
        tensors=tensors,
        tracker=Untracked(),
    )
    shard = np.load(tensors / "shards" / "shard-00000.npy")
    assert shard.max() == 255
    assert (shard[..., 0] == shard[..., 1]).all()
    assert read_json(tensors / "preprocessing.json")["method"] == "article"


def test_unlabelled_slices_stop_the_run_unless_validation_passed_them(write_dataset, validation, tensors):
    slices = [*ct_slices(), (np.zeros((80, 80), np.int16), "someone", "")]
    dataset = write_dataset(slices)
    with pytest.raises(DataError, match="Received: 1 slices without"):
        run(PARAMS, dataset=dataset, validation=validation, tensors=tensors, tracker=Untracked())
    warning = {"rule": "unlabelled_slices", "message": "", "remedy": ""}
    write_json(validation / "report.json", {"errors": [], "warnings": [warning]})
    run(PARAMS, dataset=dataset, validation=validation, tensors=tensors, tracker=Untracked())
    assert len(pd.read_parquet(tensors / "index.parquet")) == len(slices) - 1


def test_data_that_failed_validation_is_refused(write_dataset, validation, tensors):
    write_json(validation / "report.json", {"errors": [{}], "warnings": []})
    with pytest.raises(DataError, match="1 errors"):
        run(
            PARAMS,
            dataset=write_dataset(ct_slices()),
            validation=validation,
            tensors=tensors,
            tracker=Untracked(),
        )


def test_a_missing_manifest_is_named(tmp_path, validation, tensors):
    with pytest.raises(SourceError, match=r"manifest\.parquet"):
        run(PARAMS, dataset=tmp_path, validation=validation, tensors=tensors, tracker=Untracked())


def test_nothing_identifying_and_every_count_is_tracked(write_dataset, validation, tensors):
    class Notes(Untracked):
        def __init__(self):
            self.told = []

        def log_params(self, params):
            self.told += params.items()

        def log_metrics(self, metrics, epoch=None):
            self.told += metrics.items()

        def log_dataset(self, name, digest, source, context):
            self.told.append((name, digest))

    notes = Notes()
    run(PARAMS, dataset=write_dataset(ct_slices()), validation=validation, tensors=tensors, tracker=notes)
    split_hash = read_json(tensors / "preprocessing.json")["split_hash"]
    assert ("tensors", split_hash) in notes.told
    assert ("slices_train_normal", 9.0) in notes.told
    assert "normal0" not in json.dumps(notes.told)


MEASURE = """
import resource, sys
from pathlib import Path
from tumorflow.params import PreprocessParams
from tumorflow.preprocessing.step import run
from tumorflow.tracker import RegisteredVersion, Untracked
dataset, validation, tensors = map(Path, sys.argv[1:])
run(PreprocessParams(), dataset=dataset, validation=validation, tensors=tensors, tracker=Untracked())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_peak_memory_does_not_grow_with_the_cohort(write_dataset, validation, tmp_path):
    peaks = []
    for slices_per_patient in (13, 65):
        slices = ct_slices(5, slices_per_patient, size=64)
        dataset, output = (
            write_dataset(slices, str(slices_per_patient)),
            tmp_path / f"out{slices_per_patient}",
        )
        output.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(dataset), str(validation), str(output)],
            capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        peaks.append(int(done.stdout.split()[-1]))
    for smaller, larger in pairwise(peaks):
        assert larger / smaller <= 1.1
