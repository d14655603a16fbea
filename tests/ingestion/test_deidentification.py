"""Device terms, ages, pseudonyms, and multi-frame images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import UID

from tumorflow.ingestion.deidentification import clean_device_term
from tumorflow.ingestion.dicom import ENHANCED_CT_IMAGE
from tumorflow.ingestion.manifest import describe_intensities
from tumorflow.ingestion.pseudonyms import Pseudonyms
from tumorflow.slices import read_intensities

WORDS = frozenset({"doe", "jane", "778899", "mrn", "elsewhere", "li"})


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("GE MEDICAL SYSTEMS", "GE MEDICAL SYSTEMS"),
        ("Aquilion ONE", "Aquilion ONE"),
        ("B30f", "B30f"),
        ("  LightSpeed   VCT ", "LightSpeed VCT"),
        ("HiSpeed CT/i", "HiSpeed CT/i"),
        ("Jane's CT", ""),
        ("CT of Jane", ""),
        ("DOE^JANE", ""),
        ("CT-JANE-7", ""),
        ("Scanner MRN", ""),
        ("SN 1234567", ""),
        ("Elsewhere2", ""),
        ("Li 64", ""),
        ("x" * 33, ""),
        ("line\nbreak", "line break"),
        ("Müller", ""),
    ],
)
def test_device_terms_are_kept_only_where_they_name_nobody(value, kept):
    assert clean_device_term(value, WORDS) == kept


@given(st.text(max_size=40))
def test_whatever_survives_cleaning_holds_no_naming_word_and_no_long_number(value):
    cleaned = clean_device_term(value, WORDS).casefold()
    assert not any(word in cleaned for word in WORDS if len(word) >= 4)
    assert len(cleaned) <= 32
    assert cleaned.isascii()


@pytest.mark.parametrize(
    ("changes", "age"),
    [
        ({"PatientAge": "089Y"}, 89),
        ({"PatientAge": "090Y"}, 90),
        ({"PatientAge": "120Y"}, 90),
        ({"PatientAge": "018M"}, 1.5),
        ({"PatientAge": "000Y"}, 74),  # unknown: from the dates
        ({"PatientAge": None, "StudyDate": "20240213"}, 73),  # the day before the birthday
        ({"PatientAge": None, "StudyDate": None}, None),
        ({"PatientAge": None, "PatientBirthDate": "19000101"}, 90),
    ],
)
def test_ages(tmp_path, ct, ingest, changes, age):
    (tmp_path / "a").write_bytes(ct.encode(**changes))
    assert ingest(tmp_path).rows[0]["age_years"] == age


@given(st.text(min_size=1), st.text(min_size=1))
def test_pseudonymous_uids_are_valid_and_tell_originals_apart(first, second):
    pseudonyms = Pseudonyms(b"sixteen bytes or more")
    uid = UID(pseudonyms.uid(first))
    assert uid.is_valid
    assert (uid == pseudonyms.uid(second)) == (first == second)


def test_each_frame_of_an_enhanced_image_becomes_a_slice_with_its_own_rescale(tmp_path, ct, ingest):
    stored = np.arange(12, dtype=np.int16).reshape(3, 2, 2)
    dataset = ct.build(stored[0], SOPClassUID=ENHANCED_CT_IMAGE)
    for keyword in ("RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "PixelSpacing"):
        delattr(dataset, keyword)
    dataset.NumberOfFrames = 3
    dataset.PixelData = stored.tobytes()
    shared, frames = Dataset(), []
    measures = Dataset()
    measures.PixelSpacing = ["0.5", "0.6"]
    shared.PixelMeasuresSequence = [measures]
    for frame in range(3):
        transformation, position, item = Dataset(), Dataset(), Dataset()
        transformation.RescaleIntercept, transformation.RescaleSlope = f"{-1000 + frame}", "1"
        transformation.RescaleType = "HU" if frame < 2 else "US"
        position.ImagePositionPatient = ["0", "0", f"{frame * 3}"]
        item.PixelValueTransformationSequence = [transformation]
        item.PlanePositionSequence = [position]
        frames.append(item)
    del frames[2].PixelValueTransformationSequence[0].RescaleSlope
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames
    (tmp_path / "in").mkdir()
    dataset.save_as(tmp_path / "in" / "a", enforce_file_format=True)
    result = ingest(tmp_path / "in")
    rows = sorted(result.rows, key=lambda row: row["slice_position_mm"])
    assert [row["slice_position_mm"] for row in rows] == [0, 3]
    assert [row["row_spacing_mm"] for row in rows] == [0.5, 0.5]
    assert len({row["slice_id"] for row in rows}) == 2
    assert len({row["series"] for row in rows}) == 1
    first, second = (read_intensities(result.folder / row["path"]) for row in rows)
    np.testing.assert_array_equal(first, stored[0] - 1000)
    np.testing.assert_array_equal(second, stored[1] - 999)
    assert [line["rule"] for line in result.refused] == ["missing_rescale"]


@given(st.lists(st.integers(-3000, 3000), min_size=1, max_size=300))
def test_statistics_agree_with_numpy(values):
    pixels = np.array([values], np.int16)
    described = describe_intensities(pixels)
    assert described["intensity_min"] == pixels.min()
    assert described["intensity_max"] == pixels.max()
    assert described["intensity_mean"] == pytest.approx(pixels.mean())
    assert described["intensity_std"] == pytest.approx(pixels.std(), abs=1e-6)
    assert described["intensity_p99"] == np.percentile(pixels, 99, method="inverted_cdf")
    assert described["intensity_p01"] == np.percentile(pixels, 1, method="inverted_cdf")
