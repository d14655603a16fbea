import base64
import io
import json
import zipfile

import cv2
import numpy as np
import pytest
from ct_files import IDENTIFIERS, encode_ct
from PIL import Image
from service_client import CLASSES, SIZE, draw_body

from tumorflow.litert import Classifier
from tumorflow.params import Window
from tumorflow.serving.answers import DISCLAIMER
from tumorflow.slices import to_hounsfield
from tumorflow.tensors import to_tensor


def as_tensor(stored):
    windows = [
        Window(window_center_hu=c, window_width_hu=w)
        for c, w in ((-600.0, 1500.0), (40.0, 400.0), (300.0, 1500.0))
    ]
    return to_tensor(to_hounsfield(stored, 1, -1024), unit="HU", image_size_px=SIZE, windows=windows)


def as_zip(**files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def series(count=3, **changes):
    return [encode_ct(draw_body(40 * number), number=number, **changes) for number in range(1, count + 1)]


def rules(opinion):
    return [warned["rule"] for warned in opinion["warnings"]]


def decode(url):
    assert url.startswith("data:image/png;base64,")
    return cv2.imdecode(
        np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED
    )


def test_a_slice_gets_what_the_model_says_of_it(service, flatbuffer):
    stored = draw_body(70)
    expected = Classifier(flatbuffer.content).answer(as_tensor(stored)).probabilities
    answer = service.predict(encode_ct(stored))
    assert answer.status == 200
    (opinion,) = answer.json["slices"]
    assert list(opinion["probabilities"]) == list(CLASSES)
    assert list(opinion["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-6)
    assert answer.json["class"] == CLASSES[int(expected.argmax())]
    assert answer.json["confidence"] == pytest.approx(expected.max())
    assert answer.json["disclaimer"] == DISCLAIMER
    assert (opinion["file"], opinion["frame"], opinion["patient"]) == (1, 1, 1)
    assert opinion["position_mm"] == 2.5


def test_the_articles_field_and_answer_are_there(service):
    answer = service.predict(encode_ct(draw_body()), field="file").json
    assert answer["class"] in CLASSES
    assert 0 <= answer["confidence"] <= 1


def test_a_patient_gets_the_mean_of_the_slices(service):
    answer = service.predict(*series(4)).json
    mean = np.mean([list(each["probabilities"].values()) for each in answer["slices"]], axis=0)
    (patient,) = answer["patients"]
    assert patient["slices"] == 4
    assert list(patient["probabilities"].values()) == pytest.approx(mean.tolist())
    assert answer["probabilities"] == patient["probabilities"]
    assert "thin_evidence" not in rules(patient)


def test_an_archive_is_answered_as_its_files_are(service):
    files = series(5)
    packed = as_zip(
        **{"1/a.dcm": files[0], "1/b": files[1], "2/c.dcm": files[2], "2/d": files[3], "e": files[4]},
        **{"README.txt": b"x", "DICOMDIR": b"x"},
    )
    single = service.predict(*files).json
    archived = service.predict(packed).json
    assert archived["refused"] == []
    for one, other in zip(single["slices"], archived["slices"], strict=True):
        assert one == other


def test_several_patients_are_kept_apart(service):
    files = [
        encode_ct(draw_body(10), number=1, PatientID="A"),
        encode_ct(draw_body(90), number=2, PatientID="B"),
    ]
    answer = service.predict(*files).json
    assert [each["patient"] for each in answer["slices"]] == [1, 2]
    assert [each["slices"] for each in answer["patients"]] == [1, 1]
    assert "several_patients" in rules(answer)
    assert answer["class"] == answer["patients"][0]["class"]


def test_what_cannot_be_used_is_listed_and_the_rest_answered(service):
    answer = service.predict(
        encode_ct(draw_body()), b"no DICOM at all", encode_ct(draw_body(), Modality="MR"), b""
    ).json
    assert [(each["file"], each["rule"]) for each in answer["refused"]] == [
        (2, "not_dicom"),
        (3, "not_ct"),
        (4, "empty_file"),
    ]
    assert len(answer["slices"]) == 1
    assert "refused" in rules(answer)


def test_nothing_usable_is_a_problem_with_the_files_that_were_refused(service):
    answer = service.predict(b"nothing", encode_ct(draw_body(), Modality="MR"))
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["rule"] == "nothing_usable"
    assert [each["rule"] for each in answer.json["refused"]] == ["not_dicom", "not_ct"]


def test_no_identifier_is_in_answers_logs_or_the_drift_log(serve, write_model, tmp_path):
    client = serve(write_model(tmp_path / "model.tflite"), drift=tmp_path / "drift")
    good = client.predict(*series(2), query="?explain=1&picture=1")
    bad = client.predict(encode_ct(draw_body(), Modality="MR"), as_zip(**{"DOE_JANE/MRN-778899.dcm": b"x"}))
    unknown = client.ask("/DOE_JANE?name=JANE")
    assert (good.status, bad.status, unknown.status) == (200, 422, 404)
    drift = (tmp_path / "drift" / "drift.jsonl").read_bytes()
    log = "\n".join(client.log).encode()
    assert len(client.log) >= 4
    metrics = client.ask("/metrics").content
    texts = [
        json.dumps(
            {**good.json, "slices": [{**each, "picture": "", "overlay": ""} for each in good.json["slices"]]}
        ).encode(),
        bad.content,
        unknown.content,
        drift,
        log,
        metrics,
    ]
    for text in texts:
        assert not [identifier for identifier in IDENTIFIERS if identifier in text]


def test_the_overlay_is_the_heads_map_and_the_picture_what_the_model_saw(service, flatbuffer):
    stored = draw_body(120)
    tensor = as_tensor(stored)
    answer = service.predict(encode_ct(stored), query="?explain=1&picture=1").json
    (opinion,) = answer["slices"]
    assert decode(opinion["picture"])[:, :, ::-1].tolist() == tensor.tolist()
    said = Classifier(flatbuffer.content).answer(tensor)
    heat = flatbuffer.head.explain(said.feature_map, int(said.probabilities.argmax()), SIZE, SIZE)
    overlay = decode(opinion["overlay"])
    assert overlay[:, :, 3] == pytest.approx(np.rint(heat * 255), abs=1)
    plain = service.predict(encode_ct(stored)).json["slices"][0]
    assert plain["picture"] is None
    assert plain["overlay"] is None


def test_pictures_are_made_of_the_first_slices_alone(serve, write_model, tmp_path):
    client = serve(write_model(tmp_path / "model.tflite"), pictured_slices=2)
    answer = client.predict(*series(3), query="?explain=1").json
    assert [each["overlay"] is None for each in answer["slices"]] == [False, False, True]
    assert "pictures" in rules(answer)


@pytest.mark.parametrize(
    ("stored", "changes", "rule"),
    [
        (draw_body(), {"SliceThickness": "10"}, "thickness"),
        (np.full((48, 48), 24, np.int16), {}, "no_body"),
        (np.random.default_rng(0).integers(0, 3000, (48, 48)).astype(np.int16), {}, "out_of_distribution"),
    ],
    ids=["thickness", "air", "noise"],
)
def test_a_slice_that_the_model_does_not_know_is_warned_of(service, stored, changes, rule):
    usual = service.predict(encode_ct(draw_body(20))).json
    assert rules(usual["slices"][0]) == []
    strange = service.predict(encode_ct(stored, **changes)).json
    assert rule in rules(strange["slices"][0])


def test_one_slice_is_thin_evidence(service):
    assert "thin_evidence" in rules(service.predict(encode_ct(draw_body())).json)


def picture(kind="PNG"):
    body = io.BytesIO()
    Image.fromarray((draw_body() // 8).astype(np.uint8)).save(body, kind)
    return body.getvalue()


def test_a_model_of_hounsfield_units_takes_no_pictures(service):
    answer = service.predict(picture())
    assert [each["rule"] for each in answer.json["refused"]] == ["not_hounsfield"]


def test_a_model_of_pictures_takes_no_dicom(serve, write_model, tmp_path):
    preprocessing = {"method": "windows", "intensity_unit": "display", "image_size_px": SIZE, "windows": []}
    client = serve(write_model(tmp_path / "model.tflite", preprocessing=preprocessing))
    answer = client.predict(picture(), picture("JPEG"), encode_ct(draw_body()))
    assert answer.status == 200
    assert [each["file"] for each in answer.json["slices"]] == [1, 2]
    assert [each["rule"] for each in answer.json["refused"]] == ["not_display"]


def test_the_articles_preprocessing_is_served_too(serve, write_model, tmp_path):
    from tumorflow.preprocessing.article import to_article_tensor

    preprocessing = {"method": "article", "intensity_unit": "HU", "image_size_px": SIZE, "windows": []}
    client = serve(write_model(tmp_path / "model.tflite", preprocessing=preprocessing))
    stored = draw_body(30)
    answer = client.predict(encode_ct(stored), query="?picture=1").json
    expected = to_article_tensor(to_hounsfield(stored, 1, -1024), image_size_px=SIZE)
    assert decode(answer["slices"][0]["picture"]).tolist() == expected.tolist()


def test_each_slices_features_go_to_the_drift_log(serve, write_model, tmp_path, flatbuffer):
    client = serve(write_model(tmp_path / "model.tflite"), drift=tmp_path / "drift")
    stored = draw_body(60)
    answer = client.predict(encode_ct(stored), encode_ct(draw_body(), Modality="MR")).json
    (line,) = (tmp_path / "drift" / "drift.jsonl").read_text().splitlines()
    logged = json.loads(line)
    features = np.frombuffer(base64.b64decode(logged["features"]), "<f2")
    expected = Classifier(flatbuffer.content).answer(as_tensor(stored)).feature_map.mean(axis=(0, 1))
    assert features == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert logged["feature_distance"] == pytest.approx(answer["slices"][0]["feature_distance"], abs=1e-3)
    assert logged["model"] == "a1" * 32


def test_many_requests_at_once_get_their_own_answers(service):
    from concurrent.futures import ThreadPoolExecutor

    files = [encode_ct(draw_body(20 * number), number=number) for number in range(8)]
    alone = [service.predict(file).json["probabilities"] for file in files]
    assert len({json.dumps(each) for each in alone}) == 8
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda number: service.predict(files[number % 8]).json["probabilities"], range(64))
        )
    assert together == alone * 8


def test_compressed_files_of_many_requests_do_not_disturb_each_other(service, capfd):
    from concurrent.futures import ThreadPoolExecutor

    from ct_files import build_ct
    from pydicom.uid import RLELossless

    dataset = build_ct(draw_body(50))
    dataset.compress(RLELossless)
    body = io.BytesIO()
    dataset.save_as(body, enforce_file_format=True)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: service.predict(body.getvalue()).status, range(40)))
    assert answers == [200] * 40
    import os

    os.write(2, b"still heard\n")
    assert capfd.readouterr().err == "still heard\n"
