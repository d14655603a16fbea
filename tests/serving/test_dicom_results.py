import base64
import io
import json
import shutil
import subprocess
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_files import build_ct, encode_ct
from servers import find_free_port
from service_client import CLASSES, as_form, draw_body

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def ask(client, path, files):
    body, kind = as_form(files)
    return client.ask(path, "POST", body, {"Content-Type": kind})


def read(answer):
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()]


def find(item, meaning):
    """Yields the content items of a report with a concept's meaning."""
    for child in item.get("ContentSequence", []):
        names = child.get("ConceptNameCodeSequence") or [None]
        if names[0] is not None and names[0].CodeMeaning == meaning:
            yield child
        yield from find(child, meaning)


@pytest.fixture
def series():
    return [encode_ct(draw_body(30 * number), number=number) for number in range(1, 4)]


def test_the_report_holds_the_answer(service, series):
    answer = service.predict(*series).json
    report, *overlays = read(ask(service, "/report", series))
    assert report.SOPClassUID.name == "Comprehensive SR Storage"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert report.VerificationFlag == "UNVERIFIED"
    for name in CLASSES:
        (measured,) = find(report, f"Probability of {name}")
        value = float(measured.MeasuredValueSequence[0].NumericValue)
        assert value == pytest.approx(answer["probabilities"][name], abs=1e-5)
    (predicted,) = find(report, "Predicted class")
    assert predicted.ConceptCodeSequence[0].CodeMeaning == answer["class"]
    (use,) = find(report, "Intended use")
    assert use.ConceptCodeSequence[0].CodeMeaning == "For research, not for clinical decisions."
    given = [pydicom.dcmread(io.BytesIO(file)) for file in series]
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    named = {
        item.ReferencedSOPInstanceUID for item in evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence
    }
    assert named == {dataset.SOPInstanceUID for dataset in given}
    for result in (report, *overlays):
        assert (result.PatientID, result.StudyInstanceUID) == (given[0].PatientID, given[0].StudyInstanceUID)
    assert len(overlays) == 3


def test_the_overlay_is_a_secondary_capture_in_colour(service, series):
    _, *overlays = read(ask(service, "/report", series))
    answer = service.predict(*series, query="?explain=1&picture=1").json
    assert len({overlay.SOPInstanceUID for overlay in overlays}) == 3
    assert len({overlay.SeriesInstanceUID for overlay in overlays}) == 1
    for overlay, opinion in zip(overlays, answer["slices"], strict=True):
        assert overlay.SOPClassUID.name == "Secondary Capture Image Storage"
        assert "For research, not for clinical decisions." in overlay.DerivationDescription
        pixels = overlay.pixel_array
        assert pixels.shape == (32, 32, 3)
        import cv2

        def decode(url):
            return cv2.imdecode(np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), -1)

        cold = decode(opinion["overlay"])[:, :, 3] == 0
        grey = decode(opinion["picture"])[:, :, 1]
        assert (pixels[cold] == grey[cold][:, np.newaxis]).all()
        assert (pixels[~cold, 0] != pixels[~cold, 2]).any()


def test_two_patients_get_two_reports(service):
    files = [
        encode_ct(
            draw_body(10 * number), number=number, PatientID=patient, StudyInstanceUID=f"1.2.3.{number}"
        )
        for number, patient in enumerate("AB", start=1)
    ]
    results = read(ask(service, "/report", files))
    assert [(each.PatientID, each.Modality) for each in results] == [
        ("A", "SR"),
        ("A", "OT"),
        ("B", "SR"),
        ("B", "OT"),
    ]


def test_a_file_of_several_frames_is_one_piece_of_evidence(service):
    frames = np.stack([draw_body(40 * number) for number in range(3)])
    dataset = build_ct(draw_body(), NumberOfFrames=3, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1")
    dataset.PixelData = frames.astype("<i2").tobytes()
    body = io.BytesIO()
    dataset.save_as(body, enforce_file_format=True)
    report, *overlays = read(ask(service, "/report", [body.getvalue()]))
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    assert len(evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 1
    assert len(overlays) == 3


@pytest.mark.parametrize(
    "changes", [{"PatientBirthDate": "someday"}, {"StudyTime": "99xx"}, {"PatientSex": "Q"}]
)
def test_headers_that_dicom_does_not_allow_give_results_or_a_reason(service, changes):
    answer = ask(service, "/report", [encode_ct(draw_body(), **changes)])
    assert answer.status == 200 or (answer.status, answer.json["rule"]) == (422, "unreportable")


def test_an_empty_character_set_is_as_good_as_none(service):
    assert ask(service, "/report", [encode_ct(draw_body(), SpecificCharacterSet="")]).status == 200


def test_nothing_of_the_patient_is_in_the_log(service, series):
    assert ask(service, "/report", series).status == 200
    assert "MRN-778899" not in "".join(service.log)
    assert "JANE" not in "".join(service.log)


def test_without_an_archive_nothing_can_be_pushed(service, series):
    answer = ask(service, "/push", series)
    assert (answer.status, answer.json["rule"]) == (404, "no_archive")


def test_an_archive_that_is_away_is_said(serve, write_model, tmp_path, series):
    client = serve(write_model(tmp_path / "model.tflite"), pacs=f"http://127.0.0.1:{find_free_port()}")
    answer = ask(client, "/push", series)
    assert (answer.status, answer.json["rule"]) == (502, "archive_away")


@pytest.mark.skipif(
    shutil.which("Orthanc") is None or not PLUGIN.exists(),
    reason="needs Debian's orthanc and orthanc-dicomweb",
)
def test_an_archive_files_the_results_beside_the_study(serve, write_model, tmp_path, series):
    port = find_free_port()
    configuration = {
        "Name": "tests",
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(configuration))
    with (tmp_path / "orthanc.log").open("w") as log:
        process = subprocess.Popen(["Orthanc", str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"

    def get(path):
        with urllib.request.urlopen(address + path, timeout=10) as answer:
            return json.load(answer)

    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                get("/system")
                break
            except OSError:
                time.sleep(0.2)
        for file in series:
            request = urllib.request.Request(f"{address}/instances", file, method="POST")
            urllib.request.urlopen(request, timeout=10).close()
        client = serve(write_model(tmp_path / "model.tflite"), pacs=f"{address}/dicom-web")
        pushed = ask(client, "/push", series)
        assert (pushed.status, pushed.json["stored"]) == (200, 4)
        (study,) = get("/studies")
        described = [
            get(f"/series/{name}")["MainDicomTags"]["Modality"] for name in get(f"/studies/{study}")["Series"]
        ]
        assert sorted(described) == ["CT", "OT", "SR"]
    finally:
        process.terminate()
        process.wait(timeout=30)
