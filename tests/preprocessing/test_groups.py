"""Groups: patients, copies and neighbours stay together; look-alikes do not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorflow.preprocessing import signatures
from tumorflow.preprocessing.groups import SAME_ACQUISITION_SIMILARITY, group_slices, groups_from, join
from tumorflow.preprocessing.rows import opened_rows, written_rows
from tumorflow.slices import read_intensities

IQOTH = Path(__file__).parents[2].parent / "shared" / "data" / "iqoth_nccd"
LIDC = Path(__file__).parents[2].parent / "shared" / "data" / "lidc_idri"


def pairs(*some):
    return np.array(some, dtype=np.intp).reshape(-1, 2)


def phantom(patient: int, position: float = 0.0, noise: float = 20.0) -> np.ndarray:
    """A thorax alike in all patients; organs' outlines move slowly with `position`."""
    shape = np.random.default_rng(patient)
    image = np.full((128, 128), -1000.0)
    cv2.ellipse(image, (64, 64), (56, 44), 0, 0, 360, 40, -1)
    for side in (-1, 1):
        cv2.ellipse(image, (64 + 26 * side, 62), (18, 30), 0, 0, 360, -850, -1)
    for x, y, size in shape.integers((20, 30, 2), (108, 98, 7), (30, 3)):
        cv2.circle(image, (int(x + position), int(y)), int(size), 300, -1)
    grain = np.random.default_rng([patient, int(position * 1000), 1])
    return (image + grain.normal(0, noise, image.shape)).astype(np.int16)


def test_groups_come_from_patients_only_where_every_slice_has_one():
    assert groups_from(["a", "b"]) == "patient"
    assert groups_from(["a", ""]) == "near_duplicates"


def test_patients_who_share_a_slice_become_one_group():
    names = group_slices(["a", "a", "b", "c"], ["1", "2", "2", "3"], [])
    assert names == ["group-1", "group-1", "group-1", "group-3"]


def test_similar_slices_chain():
    names = group_slices([""] * 5, list("54321"), [pairs((0, 1)), pairs((1, 3))])
    assert names == ["group-2", "group-2", "group-3", "group-2", "group-1"]


def test_slices_without_a_patient_are_not_one_patient():
    assert len(set(group_slices(["", "", ""], ["1", "2", "3"], []))) == 3


def test_joining_leaves_its_argument_alone():
    members = np.arange(3)
    assert join(members, [pairs((0, 2))]).tolist() == [0, 1, 0]
    assert members.tolist() == [0, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11))), st.randoms(use_true_random=False))
def test_joining_is_transitive_and_blind_to_order(edges, random):
    members = join(np.arange(12), [pairs(*edges)])
    assert all(members[first] == members[second] for first, second in edges)
    shuffled = list(edges)
    random.shuffle(shuffled)
    assert join(np.arange(12), [pairs(edge) for edge in shuffled]).tolist() == members.tolist()


def find_pairs(folder: Path, vectors: list[np.ndarray], similarity: float) -> set[tuple[int, int]]:
    path = folder / "signatures.npy"
    with written_rows(path, len(vectors), (signatures.SIGNATURE_LENGTH,), signatures.STORED) as append:
        for vector in vectors:
            append(vector.astype(signatures.STORED))
    with opened_rows([path]) as stored:
        found = [
            tuple(pair) for batch in signatures.similar_pairs(stored, similarity) for pair in batch.tolist()
        ]
    assert len(found) == len(set(found))
    return set(found)


def test_pairs_are_found_within_and_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(signatures, "BLOCK", 3)
    generator = np.random.default_rng(0)
    vectors = [generator.normal(size=signatures.SIGNATURE_LENGTH) for _ in range(8)]
    vectors[7], vectors[2] = vectors[1], vectors[0]
    normed = [np.float32(vector / np.linalg.norm(vector)) for vector in vectors]
    assert find_pairs(tmp_path, normed, 0.9) == {(1, 7), (0, 2)}


def test_a_constant_slice_is_like_nothing():
    flat = np.full((64, 64), 7, dtype=np.uint8)
    assert not signatures.scan_signature(flat, "display").any()
    assert not signatures.noise_signature(flat).any()


def test_neighbours_of_a_scan_are_alike_and_two_patients_are_not():
    first, neighbour, stranger = (
        signatures.scan_signature(slice_, "HU") for slice_ in (phantom(1), phantom(1, 1.0), phantom(2))
    )
    # the thorax that all phantoms share keeps strangers at 0.5; real patients have 0.2
    assert first @ neighbour > 0.9
    assert first @ stranger < 0.6


def test_a_recompressed_or_resized_copy_is_alike():
    grey = np.clip((phantom(3) + 1000) / 8, 0, 255).astype(np.uint8)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE)
    larger = cv2.resize(grey, (300, 300))
    original = signatures.scan_signature(grey, "display")
    assert original @ signatures.scan_signature(jpeg, "display") > 0.95
    assert original @ signatures.scan_signature(larger, "display") > 0.8


def test_one_acquisition_is_told_from_another_of_the_same_anatomy():
    generator = np.random.default_rng(5)
    anatomy = cv2.GaussianBlur(phantom(1, noise=0.0).astype(np.float32), (0, 0), 12)
    original, again = (anatomy + generator.normal(0, 20, anatomy.shape) for _ in range(2))
    copy = original + generator.normal(0, 10, anatomy.shape)
    signature, of_copy, of_again = (
        signatures.noise_signature(slice_.astype(np.int16)) for slice_ in (original, copy, again)
    )
    assert signature @ of_copy > SAME_ACQUISITION_SIMILARITY
    assert abs(signature @ of_again) < 0.2


@pytest.mark.skipif(not IQOTH.is_dir(), reason="IQ-OTH/NCCD is not beside the checkout")
def test_iqoth_groups_are_neither_single_slices_nor_one_giant(tmp_path):
    images = [
        cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(IQOTH.glob("Normal cases/*.jpg"))
    ]
    vectors = [signatures.scan_signature(image, "display") for image in images]
    found = find_pairs(tmp_path, vectors, 0.5)
    names = group_slices([""] * len(images), [f"{n:04}" for n in range(len(images))], [pairs(*sorted(found))])
    sizes = sorted((names.count(name) for name in set(names)), reverse=True)
    assert 40 <= len(sizes) <= 70  # the source says 55 patients
    assert sizes[0] <= 0.15 * len(images)


@pytest.mark.skipif(not LIDC.is_dir(), reason="LIDC-IDRI is not beside the checkout")
def test_no_two_slices_of_a_real_series_pass_for_one_acquisition():
    slices = [read_intensities(path) for path in sorted(LIDC.rglob("*.dcm"))[:60]]
    vectors = np.stack([signatures.noise_signature(slice_) for slice_ in slices])
    alike = vectors @ vectors.T - np.eye(len(slices))
    assert alike.max() < SAME_ACQUISITION_SIMILARITY
