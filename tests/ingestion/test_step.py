"""Whole folders through ingestion."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from tumorflow.errors import DataError, ParameterError, SourceError
from tumorflow.slices import hash_intensities, read_intensities

DATA = Path(__file__).parents[2].parent / "shared" / "data"
ALL_COLUMNS = (
    "slice_id path patient study series label intensity_unit rows columns row_spacing_mm column_spacing_mm "
    "slice_thickness_mm slice_position_mm rescale_slope rescale_intercept manufacturer scanner_model "
    "convolution_kernel tube_voltage_kv sex age_years intensity_min intensity_p01 intensity_mean "
    "intensity_p99 intensity_max intensity_std content_hash"
)


def all_bytes(folder: Path) -> bytes:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in paths)


def test_a_slice_keeps_what_matters_and_loses_who_it_is(tmp_path, ct, ingest, capfd):
    source = tmp_path / "DOE^JANE"
    (source / "malignant").mkdir(parents=True)
    (source / "malignant" / "JANE.DOE").write_bytes(ct.encode())
    (source / "malignant" / "MRN-778899.dcm").write_text("no DICOM of DOE^JANE")
    (source / "notes.txt").write_text("DOE^JANE")

    result = ingest(source)

    (row,) = result.rows
    assert list(row) == ALL_COLUMNS.split()
    assert row["label"] == "malignant"
    assert (row["rows"], row["columns"]) == (16, 12)
    assert (row["row_spacing_mm"], row["column_spacing_mm"]) == (0.7, 0.8)
    assert (row["slice_thickness_mm"], row["slice_position_mm"]) == (2.5, 2.5)
    assert (row["manufacturer"], row["scanner_model"]) == ("GE MEDICAL SYSTEMS", "LightSpeed16")
    assert (row["convolution_kernel"], row["tube_voltage_kv"]) == ("STANDARD", 120.0)
    assert (row["sex"], row["age_years"]) == ("F", 74.0)
    hounsfield = read_intensities(result.folder / row["path"])
    assert hounsfield.dtype == np.int16
    expected = (np.arange(192).reshape(16, 12) * 7 + 1) % 2000 - 1024
    np.testing.assert_array_equal(hounsfield, expected)
    assert row["content_hash"] == hash_intensities(hounsfield)
    assert (row["intensity_min"], row["intensity_max"]) == (expected.min(), expected.max())
    assert row["intensity_mean"] == pytest.approx(expected.mean())
    assert row["intensity_std"] == pytest.approx(expected.std())
    assert [(line["file"], line["rule"]) for line in result.refused] == [("000001.dcm", "not_dicom")]
    assert result.summary == {
        "kind": "dicom",
        "data_hash": "abc",
        "files": 3,
        "ignored": 1,
        "slices": 1,
        "quarantined": 1,
        "classes": ["malignant"],
    }
    written = all_bytes(result.folder) + "".join(capfd.readouterr()).encode()
    assert [word for word in ct.identifiers if word in written] == []


def test_the_written_file_says_that_and_how_it_was_deidentified(tmp_path, ct, ingest):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(ct.encode(PatientAge="093Y"))
    result = ingest(tmp_path / "in")
    dataset = pydicom.dcmread(result.folder / result.rows[0]["path"])
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.LongitudinalTemporalInformationModified == "REMOVED"
    codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113108", "113109"]
    assert dataset.PatientAge == "090Y"
    assert result.rows[0]["age_years"] == 90
    assert dataset.PatientID == dataset.PatientName == result.rows[0]["patient"]
    assert dataset.SOPInstanceUID == result.rows[0]["slice_id"]
    assert dataset.SOPInstanceUID.startswith("2.25.")
    assert dataset.SOPInstanceUID.is_valid
    assert not [element for element in dataset if element.tag.is_private]
    assert not [e for e in dataset if e.VR in ("DA", "TM", "DT") and e.value]


def test_same_key_same_bytes_and_another_key_only_other_names(tmp_path, ct, ingest, monkeypatch):
    (tmp_path / "in").mkdir()
    for number in range(1, 7):
        (tmp_path / "in" / f"{number}").write_bytes(ct.encode(number=number))
    # two slices with equal content: their order must not follow the pseudonyms either
    (tmp_path / "in" / "7").write_bytes(ct.encode(number=1, SOPInstanceUID="1.2.3.7", PatientSex="M"))
    first, second = ingest(tmp_path / "in"), ingest(tmp_path / "in")
    assert all_bytes(first.folder) == all_bytes(second.folder)
    orders = set()
    for digit in range(8):
        monkeypatch.setenv("TUMORFLOW_PSEUDONYM_KEY", f"0b94be1d7a6350c2ef8{digit}6d21a4c97e503f")
        other = ingest(tmp_path / "in")
        assert {row["patient"] for row in other.rows}.isdisjoint({row["patient"] for row in first.rows})
        orders.add(tuple((row["content_hash"], row["sex"]) for row in other.rows))
    assert orders == {tuple((row["content_hash"], row["sex"]) for row in first.rows)}


def test_uids_stay_consistent_and_a_missing_patient_id_falls_back_on_the_study(tmp_path, ct, ingest):
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        (tmp_path / "in" / f"{number}").write_bytes(ct.encode(number=number))
        unknown = ct.encode(number=10 + number, PatientID="", StudyInstanceUID=f"1.2.{number}")
        (tmp_path / "in" / f"x{number}").write_bytes(unknown)
    rows = ingest(tmp_path / "in").rows
    assert len({row["series"] for row in rows}) == 1
    assert len({row["study"] for row in rows}) == 3
    assert len({row["patient"] for row in rows}) == 3


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"Modality": "MR"}, "not_ct"),
        ({"Modality": None}, "not_ct"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary_capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "not_ct"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary_capture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"BurnedInAnnotation": "YES"}, "burned_in"),
        ({"RecognizableVisualFeatures": "YES"}, "recognizable_features"),
        ({"RescaleSlope": None}, "missing_rescale"),
        ({"RescaleIntercept": None}, "missing_rescale"),
        ({"RescaleSlope": "0"}, "missing_rescale"),
        ({"RescaleType": "MGML"}, "not_hounsfield"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "not_grey"),
        ({"Rows": None}, "not_an_image"),
        ({"PixelData": None}, "not_an_image"),
        ({"Rows": 17}, "truncated_pixels"),
        ({"Rows": 14}, "conflicting_size"),
        ({"Rows": 60_000, "Columns": 60_000}, "too_large"),
        ({"BitsStored": 12}, "unsupported_pixels"),
        ({"BitsAllocated": 32}, "unsupported_pixels"),
        ({"StudyInstanceUID": None}, "missing_uid"),
        ({"SOPInstanceUID": ""}, "missing_uid"),
        ({"ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"]}, "not_axial"),
    ],
)
def test_what_must_not_be_used_is_quarantined(tmp_path, ct, ingest, changes, rule):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(ct.encode(number=1))
    (tmp_path / "in" / "b").write_bytes(ct.encode(number=2, **changes))
    result = ingest(tmp_path / "in")
    assert [line["rule"] for line in result.refused] == [rule]
    assert len(result.rows) == 1


def test_repeated_instances_are_refused_and_nothing_is_kept_under_two_classes(tmp_path, ct, ingest):
    for label in ("benign", "malignant"):
        (tmp_path / "in" / label).mkdir(parents=True)
        (tmp_path / "in" / label / "both").write_bytes(ct.encode(number=1))
    inside = tmp_path / "in" / "benign"
    (inside / "one").write_bytes(ct.encode(number=2))
    (inside / "same").write_bytes(ct.encode(number=2))
    (inside / "zz other").write_bytes(ct.encode(np.ones((4, 4), np.int16), number=2))
    result = ingest(tmp_path / "in")
    assert [row["label"] for row in result.rows] == ["benign"]
    assert sorted(line["rule"] for line in result.refused) == sorted(
        ["conflicting_label", "conflicting_label", "duplicate_instance", "conflicting_instance"]
    )
    assert len(list((result.folder / "slices").iterdir())) == 1


@pytest.mark.parametrize("signed", [False, True])
def test_padding_is_air_even_with_the_wrong_vr(tmp_path, ct, ingest, signed):
    stored = np.array([[-2000, 24], [1024, 2000]], np.int16)
    pixels = stored if signed else stored.view(np.uint16)
    dataset = ct.build(pixels)
    dataset.add_new("PixelPaddingValue", "US", 63536)
    (tmp_path / "in").mkdir()
    dataset.save_as(tmp_path / "in" / "a", enforce_file_format=True)
    (row,) = ingest(tmp_path / "in").rows
    assert row["intensity_min"] == -1024
    assert row["intensity_max"] == 976


def test_monochrome1_holds_the_same_hounsfield_units(tmp_path, ct, ingest):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(ct.encode(number=1))
    (tmp_path / "in" / "b").write_bytes(
        ct.encode(number=1, SOPInstanceUID="1.2.3", PhotometricInterpretation="MONOCHROME1")
    )
    one, two = ingest(tmp_path / "in").rows
    assert one["content_hash"] == two["content_hash"]


def test_bits_above_bits_stored_are_no_pixels(tmp_path, ct, ingest):
    stored = np.array([[0x0FFF, 0x0800], [0xF001, 0x1002]], np.uint16)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(ct.encode(stored, BitsStored=12, HighBit=11))
    result = ingest(tmp_path / "in")
    hounsfield = read_intensities(result.folder / result.rows[0]["path"])
    np.testing.assert_array_equal(hounsfield, [[3071, 1024], [-1023, -1022]])


def test_a_source_that_cannot_carry_a_run_is_refused_without_its_path(tmp_path, ct, ingest):
    empty = tmp_path / "DOE"
    with pytest.raises(SourceError, match="nothing at it") as error:
        ingest(empty)
    assert "DOE" not in str(error.value)
    empty.mkdir()
    with pytest.raises(SourceError, match="empty"):
        ingest(empty)
    (empty / "DOE.txt").write_text("x")
    with pytest.raises(SourceError, match="none of them"):
        ingest(empty)
    (empty / "a.dcm").write_text("x")
    with pytest.raises(SourceError, match="not_dicom: 1"):
        ingest(empty)
    (empty / "b.dcm").write_bytes(ct.encode())
    (empty / "c.dcm").write_text("x")
    with pytest.raises(DataError, match="2 of 3") as refusal:
        ingest(empty, max_quarantined_fraction=0.5)
    assert "DOE" not in str(refusal.value)


def test_another_key_than_the_named_one_is_refused(tmp_path, ct, ingest):
    (tmp_path / "a").write_bytes(ct.encode())
    with pytest.raises(ParameterError, match="key_id"):
        ingest(tmp_path, key_id="0" * 12)


@pytest.mark.skipif(not DATA.exists(), reason="shared data are not here")
class TestRealFiles:
    def test_every_odd_file_ends_as_slice_or_refusal(self, ingest, capfd):
        result = ingest(DATA / "dicom_files")
        summary = result.summary
        assert summary["files"] == 196
        # a multi-frame file gives three slices
        assert summary["slices"] + summary["quarantined"] + summary["ignored"] == 196 + 2
        rules = {line["rule"] for line in result.refused}
        assert {"not_ct", "not_an_image", "not_dicom", "localizer", "duplicate_instance"} <= rules
        output = capfd.readouterr()
        assert output.err == ""
        assert output.out.count("\n") <= 2
        known = set()
        for path in (DATA / "dicom_files").rglob("*"):
            if path.is_file():
                try:
                    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
                except Exception:  # noqa: BLE001 (odd files are the point)
                    continue
                known.add(str(dataset.get("PatientID", "")).encode())
        written = all_bytes(result.folder)
        assert [name for name in known if len(name) > 5 and name in written] == []

    def test_lossless_transfer_syntaxes_agree(self, tmp_path, ingest):
        expected = None
        folder = DATA / "dicom_files" / "cornerstone3D"
        syntaxes = ("2", "2.1", "2.2", "2.5", "2.1.99", "2.4.57", "2.4.70", "2.4.80", "2.4.90")
        for syntax in syntaxes:
            (path,) = folder.glob(f"CTImage.dcm_*_1.2.840.10008.1.{syntax}.dcm")
            source = tmp_path / syntax
            source.mkdir()
            (source / "a").symlink_to(path)
            (row,) = ingest(source).rows
            expected = expected or row["content_hash"]
            assert row["content_hash"] == expected

    def test_lidc_goes_in_without_labels(self, ingest):
        result = ingest(DATA / "lidc_idri")
        assert len(result.rows) == 144
        assert result.refused == []
        assert {row["label"] for row in result.rows} == {""}
        assert len({row["patient"] for row in result.rows}) == 2
        assert b"LIDC" not in all_bytes(result.folder)
