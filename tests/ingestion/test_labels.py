"""Labels from folders and from label files."""

from pathlib import PurePosixPath

import pytest

from tumorflow.errors import SourceError
from tumorflow.ingestion.labels import parse_labels, read_labels
from tumorflow.ingestion.sources import label_by_folder

CLASSES = ("normal", "benign", "malignant")


def parse(text):
    return parse_labels(text, CLASSES, {"Bengin cases": "benign"})


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("Benign/1.dcm", "benign"),
        ("bengin CASES/1.dcm", "benign"),
        ("x/malignant/normal/1.dcm", "malignant"),
        ("x/benign.dcm", ""),
        ("other/1.dcm", ""),
    ],
)
def test_the_first_folder_that_names_a_class_labels(path, label):
    assert label_by_folder(PurePosixPath(path), CLASSES, {"Bengin cases": "benign"}) == label


def test_the_nearest_path_wins():
    labels = parse("path,label\na,benign\na/b/1.dcm,Malignant\n./c/,normal\n")
    assert labels.find(PurePosixPath("a/x.dcm"), "", "") == ("benign", 2)
    assert labels.find(PurePosixPath("a/b/1.dcm"), "", "") == ("malignant", 3)
    assert labels.find(PurePosixPath("c/d/e"), "", "") == ("normal", 4)
    assert labels.find(PurePosixPath("d"), "", "") == ("", 0)


@pytest.mark.parametrize("text", ["Patient_ID;Label\nP1;Bengin cases\n", "label\tpatient_id\nbenign\tP1\n\n"])
def test_delimiters_and_header_case(text):
    assert parse(text).find(PurePosixPath("x"), "1.2", "P1")[0] == "benign"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'label'"),
        ("name,class\nDOE,benign\n", "column 'label'"),
        ("patient_id,label,label\nDOE,benign,benign\n", "each once"),
        ("patient_id,label\n", "rows below its header"),
        ("patient_id,label\nDOE,tumour\n", "row 2"),
        ("patient_id,label\nDOE,\n", "row 2"),
        ("patient_id,label\n,benign\n", "names a patient_id"),
        ("patient_id,label\nDOE,benign,x\n", "3 in row 2"),
        ("patient_id,label\nDOE,benign\nX,normal\nDOE,malignant\n", "rows 2 and 4"),
        ("path,label\n../DOE,benign\n", "relative"),
        ("path,label\n/DOE,benign\n", "relative"),
    ],
)
def test_a_faulty_label_file_is_refused_by_row_and_without_its_values(text, message):
    with pytest.raises(SourceError, match=message) as error:
        parse(text)
    assert "DOE" not in str(error.value)
    assert "tumour" not in str(error.value)


def test_unreadable_label_files(tmp_path):
    with pytest.raises(SourceError, match="can be read"):
        read_labels(tmp_path / "DOE.csv", CLASSES, {})
    (tmp_path / "a.csv").write_bytes("patient_id,label\nMüller,benign\n".encode("latin-1"))
    with pytest.raises(SourceError, match="UTF-8"):
        read_labels(tmp_path / "a.csv", CLASSES, {})
    (tmp_path / "b.csv").write_text('patient_id,label\n"DOE"x,benign\n')
    with pytest.raises(SourceError, match="quotes"):
        read_labels(tmp_path / "b.csv", CLASSES, {})


def test_rows_that_contradict_each_other_about_a_file_are_named():
    labels = parse("patient_id,path,label\nDOE,,benign\n,a,malignant\n")
    with pytest.raises(SourceError, match="rows 3 and 2"):
        labels.find(PurePosixPath("a/1.dcm"), "", "DOE")


def test_labels_csv_at_the_root_is_found_and_needs_to_fit(tmp_path, ct, ingest):
    (tmp_path / "malignant").mkdir()
    (tmp_path / "malignant" / "1.dcm").write_bytes(ct.encode(number=1))
    (tmp_path / "2.dcm").write_bytes(ct.encode(number=2, PatientID="other"))
    (tmp_path / "labels.csv").write_text("patient_id,label\nMRN-778899,benign\n")
    result = ingest(tmp_path)
    assert sorted(row["label"] for row in result.rows) == ["", "benign"]
    assert result.summary["classes"] == ["benign"]
    (tmp_path / "labels.csv").write_text("patient_id,label\nnobody,benign\n")
    with pytest.raises(SourceError, match="none fits"):
        ingest(tmp_path)
    (tmp_path / "mine.tsv").write_text("series_uid\tlabel\n1.2.826.0.1.999.2\tmalignant\n")
    assert {row["label"] for row in ingest(tmp_path, labels="mine.tsv").rows} == {"malignant"}
    with pytest.raises(SourceError, match=r"ingest\.labels"):
        ingest(tmp_path, labels="missing.csv")
