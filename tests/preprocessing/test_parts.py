"""Parts: prepared apart and joined, they give the very bytes of the step alone."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from tumorflow.errors import SourceError, UsageError
from tumorflow.files import hash_file, read_json
from tumorflow.lineage import hash_content
from tumorflow.params import PreprocessParams
from tumorflow.preprocessing import part_step, preparation, step
from tumorflow.preprocessing.preparation import stretch_of
from tumorflow.tracker import Untracked

CLASSES = ("normal", "benign", "malignant")
PARAMS = PreprocessParams(image_size_px=32, shard_slices=4)


def ct_slices():
    """30 slices of 15 patients, one of them with a noisy copy under another patient's name."""
    generator = np.random.default_rng(0)
    slices = [
        (generator.normal(40, 30, (80, 80)).astype(np.int16), f"{label}{patient}", label)
        for label in CLASSES
        for patient in range(5)
        for _ in range(2)
    ]
    copy = slices[0][0] + generator.normal(0, 3, (80, 80)).astype(np.int16)
    return [*slices[:-1], (copy, "normal4", "normal")]


def grey_slices():
    """27 images of 9 scans, without patients."""
    generator = np.random.default_rng(0)
    scans = [(generator.integers(0, 200, (80, 80)), label) for label in CLASSES for _ in range(3)]
    return [
        ((scan + generator.integers(0, 30, scan.shape)).astype(np.uint8), "", label)
        for scan, label in scans
        for _ in range(3)
    ]


@pytest.fixture
def prepare(tmp_path, validation):
    """Returns a function that prepares all parts of a dataset and returns their folders."""

    def all_parts(dataset, of, params=PARAMS, name="parts"):
        folders = [tmp_path / name / str(number) for number in range(of)]
        for number, folder in enumerate(folders):
            folder.mkdir(parents=True)
            returned = part_step.run(
                params,
                dataset=dataset,
                validation=validation,
                part=folder,
                number=str(number),
                of=str(of),
                tracker=Untracked(),
            )
            assert returned == ""
        return folders

    return all_parts


@pytest.fixture
def join(tmp_path, validation):
    """Returns a function that runs the step on parts, or alone, and returns its output."""

    def run(dataset, parts=(), params=PARAMS, name="tensors"):
        output = tmp_path / name
        output.mkdir()
        step.run(
            params, dataset=dataset, validation=validation, tensors=output, tracker=Untracked(), parts=parts
        )
        return output

    return run


@pytest.mark.parametrize("method", ["windows", "article"])
@pytest.mark.parametrize("slices", [ct_slices(), grey_slices()], ids=["patients", "near-duplicates"])
def test_any_number_of_parts_gives_the_same_bytes(write_dataset, prepare, join, slices, method):
    params = PARAMS.model_copy(update={"method": method})
    dataset = write_dataset(slices)
    alone = hash_content(join(dataset, params=params))
    for of in (1, 2, 3, 4, 7, 11):  # there are 7 or 8 shards: parts without a slice too
        parts = prepare(dataset, of, params.model_copy(update={"parallel_parts": of}), f"parts-{of}")
        assert hash_content(join(dataset, parts, params, f"tensors-{of}")) == alone


def test_the_order_in_which_parts_come_does_not_matter(write_dataset, prepare, join):
    dataset = write_dataset(ct_slices())
    parts = prepare(dataset, 11)
    assert hash_content(join(dataset, parts)) == hash_content(join(dataset, parts[::-1], name="reversed"))


def test_a_part_is_the_same_wherever_it_is_prepared_and_nothing_of_it_is_changed(
    write_dataset, prepare, join
):
    dataset = write_dataset(ct_slices())
    one, other = prepare(dataset, 3), prepare(dataset, 3, name="again")
    join(dataset, one)
    assert [hash_content(part) for part in one] == [hash_content(part) for part in other]


def test_an_empty_part_whose_empty_folder_a_store_dropped_is_joined(write_dataset, prepare, join):
    dataset = write_dataset(ct_slices())
    parts = prepare(dataset, 11)
    empty = [part for part in parts if not list((part / "shards").iterdir())]
    assert len(empty) == 3
    for part in empty:
        (part / "shards").rmdir()
    assert hash_content(join(dataset, parts)) == hash_content(join(dataset, name="alone"))


def test_shards_are_copied_where_there_are_no_links(write_dataset, prepare, join, monkeypatch):
    dataset = write_dataset(ct_slices())
    alone = join(dataset, name="alone")
    monkeypatch.setattr("pathlib.Path.hardlink_to", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    output = join(dataset, prepare(dataset, 2))
    assert hash_content(output) == hash_content(alone)
    assert {shard.stat().st_nlink for shard in (output / "shards").iterdir()} == {1}


def test_parts_share_out_whole_shards():
    for slices, of in ((0, 3), (1, 3), (30, 4), (33, 2), (1000, 64)):
        stretches = [stretch_of(slices, 4, number, of) for number in range(of)]
        assert [at for stretch in stretches for at in stretch] == list(range(slices))
        assert all(stretch.start % 4 == 0 or not stretch for stretch in stretches)
        shards = [-(-len(stretch) // 4) for stretch in stretches]
        assert max(shards) - min(shards) <= 1


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (lambda parts: parts[:2], "2 parts, among them part 0 of 3; what differs: of"),
        (lambda parts: [parts[0], parts[1], parts[1]], "part 1 of 3; what differs: number"),
    ],
)
def test_missing_and_doubled_parts_are_refused(write_dataset, prepare, join, wrong, rule):
    dataset = write_dataset(ct_slices())
    with pytest.raises(SourceError, match=rule):
        join(dataset, wrong(prepare(dataset, 3)))


def test_parts_of_other_data_or_other_parameters_are_refused(write_dataset, prepare, join):
    dataset = write_dataset(ct_slices())
    other = write_dataset(grey_slices(), "other")
    with pytest.raises(SourceError, match="what differs: shards, cohort, recipe"):
        join(dataset, prepare(other, 2))
    parts = prepare(dataset, 2, PARAMS.model_copy(update={"image_size_px": 33}), "larger")
    with pytest.raises(SourceError, match="what differs: recipe"):
        join(dataset, parts, name="unlike")


def test_parameters_of_the_join_alone_leave_parts_as_they_are(write_dataset, prepare, join):
    dataset = write_dataset(ct_slices())
    other = PARAMS.model_copy(update={"seed": 8, "test_fraction": 0.3})
    output = join(dataset, prepare(dataset, 2), other)
    assert hash_content(output) == hash_content(join(dataset, params=other, name="alone"))


def test_a_part_without_one_of_its_shards_or_description_is_refused(write_dataset, prepare, join):
    dataset = write_dataset(ct_slices())
    parts = prepare(dataset, 2)
    (parts[1] / "shards" / "shard-00005.npy").unlink()
    with pytest.raises(SourceError, match=r"no 'shard-00005\.npy'"):
        join(dataset, parts)
    (parts[1] / "part.json").unlink()
    with pytest.raises(SourceError, match=r"part\.json"):
        join(dataset, parts, name="again")


@pytest.mark.parametrize(("number", "of"), [("4", "4"), ("-1", "4"), ("0", "0"), ("one", "4"), ("", "")])
def test_a_part_that_cannot_be_is_refused(tmp_path, validation, number, of):
    with pytest.raises(UsageError, match=f"Received: '{number}' of '{of}'"):
        part_step.run(
            PARAMS,
            dataset=tmp_path,
            validation=validation,
            part=tmp_path,
            number=number,
            of=of,
            tracker=Untracked(),
        )


def test_a_part_is_told_by_what_it_holds(write_dataset, prepare):
    about = read_json(prepare(write_dataset(ct_slices()), 3)[2] / "part.json")
    assert (about["number"], about["of"]) == (2, 3)
    assert about["shards"] == {"shard-00005.npy": 4, "shard-00006.npy": 4, "shard-00007.npy": 2}
    assert (about["recipe"]["groups_from"], about["recipe"]["intensity_unit"]) == ("patient", "HU")


DIES_MIDWAY = """
import os, signal, sys
from pathlib import Path
from tumorflow.files import read_json, written_folder
from tumorflow.params import PreprocessParams
from tumorflow.preprocessing import part_step, preparation
from tumorflow.slices import read_intensities
from tumorflow.tracker import Untracked
left = [6]
def read(path):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_intensities(path)
preparation.read_intensities = read
dataset, validation, part = map(Path, sys.argv[1:4])
with written_folder(part) as folder:
    part_step.run(PreprocessParams.model_validate_json(sys.argv[4]), dataset=dataset, validation=validation,
                  part=folder, number="1", of="3", tracker=Untracked())
"""


def test_a_part_killed_midway_leaves_nothing_and_is_done_again_alone(
    tmp_path, write_dataset, validation, prepare, join
):
    dataset = write_dataset(ct_slices())
    parts = prepare(dataset, 3)
    before = [hash_file(parts[at] / preparation.ABOUT) for at in (0, 2)]
    shutil.rmtree(parts[1])
    arguments = [str(path) for path in (dataset, validation, parts[1])]
    died = subprocess.run(
        [sys.executable, "-c", DIES_MIDWAY, *arguments, PARAMS.model_dump_json()],
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert died.returncode == -signal.SIGKILL
    assert not parts[1].exists()
    with pytest.raises(SourceError, match=r"part\.json"):
        join(dataset, parts)
    parts[1] = prepare(dataset, 3, name="again")[1]
    assert hash_content(join(dataset, parts, name="whole")) == hash_content(join(dataset, name="alone"))
    assert before == [hash_file(parts[at] / preparation.ABOUT) for at in (0, 2)]
