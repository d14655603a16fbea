import io
import json
import re
import socket
import struct
import threading
import time
import zipfile

import numpy as np
import pytest
from ct_files import build_ct, encode_ct

from tumorflow.errors import ParameterError
from tumorflow.serving.settings import read_keys

BEGUN = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 1000\r\n\r\n--x\r\n"
)
KEY = "0123456789abcdef0123456789"


def as_zip(entries, method=zipfile.ZIP_DEFLATED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return packed.getvalue()


def test_every_failure_is_a_problem_with_a_request_id(service):
    form, kind = b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}
    for asked, status, rule in [
        (("/predict", "POST", form, kind), 422, "no_file"),
        (("/predict", "POST", b"{}", {"Content-Type": "application/json"}), 415, "not_a_form"),
        (("/predict", "POST", b"", {"Content-Type": "multipart/form-data"}), 400, "broken_body"),
        (("/predict", "POST", b"nonsense", kind), 400, "broken_body"),
        (("/predict?explain=perhaps", "POST", form, kind), 422, "bad_parameter"),
        (("/predict",), 405, "wrong_method"),
        (("/../../etc/passwd",), 404, "not_found"),
    ]:
        answer = service.ask(*asked)
        assert (answer.status, answer.json["rule"]) == (status, rule)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["request_id"] == answer.headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", answer.json["request_id"])


def test_a_log_line_a_request_names_its_route_and_id(service):
    answer = service.predict(encode_ct())
    line = json.loads(service.log[-1])
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["route"], line["status"], line["slices"]) == ("/predict", 200, 1)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused_before_it_is_kept(serve, write_model, tmp_path, announced):
    client = serve(write_model(tmp_path / "model.tflite"), body_bytes=100_000)
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        length = "Content-Length: 5000000" if announced else "Transfer-Encoding: chunked"
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            + f"{length}\r\n\r\n".encode()
        )
        if not announced:
            part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + bytes(
                300_000
            )
            connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        answer = connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert '"rule": "too_large"' in answer or '"rule":"too_large"' in answer


def test_a_body_that_does_not_arrive_is_not_waited_for(serve, write_model, tmp_path):
    client = serve(write_model(tmp_path / "model.tflite"), patience_s=0.3)
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(BEGUN)
        answer = connection.recv(65536).decode()
        assert answer.startswith("HTTP/1.1 408 ")
    assert client.predict(encode_ct()).status == 200


def test_headers_that_do_not_end_are_not_waited_for(serve, write_model, tmp_path, monkeypatch):
    monkeypatch.setattr("tumorflow.serving.server.HEADERS_S", 0.3)
    client = serve(write_model(tmp_path / "model.tflite"))
    for beginning in (b"", b"POST /predict HTTP/1.1\r\nHost: x\r\n"):
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
            connection.sendall(beginning)
            assert connection.recv(100) == b""


def test_a_client_that_leaves_disturbs_nobody(service):
    body = encode_ct()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
            connection.sendall(BEGUN)
    assert service.predict(body).status == 200
    assert not [line for line in service.log if '"status": 5' in line or '"error"' in line]


def test_more_requests_than_are_taken_get_429(serve, write_model, tmp_path):
    client = serve(write_model(tmp_path / "model.tflite"), requests=1)
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(BEGUN)
        time.sleep(0.3)
        busy = client.predict(encode_ct())
        assert (busy.status, busy.json["rule"], busy.headers["retry-after"]) == (429, "busy", "1")
    deadline = time.monotonic() + 10
    while (answer := client.predict(encode_ct())).status == 429 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("limits", "files", "status", "rule"),
    [
        ({"files": 2}, [encode_ct(number=n) for n in range(3)], 413, "too_many_files"),
        ({"files": 2}, [as_zip([(f"{n}", b"x") for n in range(3)])], 413, "too_many_files"),
        ({"slices": 1}, [encode_ct(number=n) for n in range(3)], 413, "too_many_slices"),
        ({"unpacked_bytes": 10**6}, [as_zip([("a", bytes(5 * 10**6))])], 413, "too_large"),
        (
            {"unpacked_bytes": 10**6},
            [as_zip([("a", bytes(600_000)), ("b", bytes(600_000))])],
            413,
            "too_large",
        ),
        ({}, [as_zip([("a.txt", b"x")])], 422, "nothing_usable"),
        ({}, [as_zip([("a", b"x")])[:-30]], 422, "nothing_usable"),
        ({}, [b"PK\x03\x04 and no archive"], 422, "nothing_usable"),
        ({"pixels": 10}, [encode_ct()], 422, "nothing_usable"),
    ],
    ids=["files", "entries", "slices", "bomb", "two bombs", "no slice", "cut off", "no archive", "pixels"],
)
def test_too_much_and_too_little_is_refused(serve, write_model, tmp_path, limits, files, status, rule):
    client = serve(write_model(tmp_path / "model.tflite"), **limits)
    answer = client.predict(*files)
    assert (answer.status, answer.json["rule"]) == (status, rule)
    assert list(client.scratch.iterdir()) == [], "nothing of a request stays"


def test_a_list_of_entries_that_would_fill_the_memory_is_not_read(service):
    archive = bytearray(as_zip([("a", encode_ct())]))
    end = archive.rfind(b"PK\x05\x06")
    struct.pack_into("<L", archive, end + 12, 2**30)
    answer = service.predict(bytes(archive))
    assert [each["rule"] for each in answer.json["refused"]] == ["too_large"]


@pytest.mark.parametrize("name", ["../../outside.dcm", "/tmp/outside.dcm", "a/../../../b.dcm", "C:\\x.dcm"])
def test_names_in_an_archive_lead_nowhere(service, name, tmp_path):
    before = set(tmp_path.rglob("*"))
    answer = service.predict(as_zip([(name, encode_ct())]))
    assert answer.status == 200
    assert set(tmp_path.rglob("*")) == before


def test_an_entry_without_a_name_is_no_slice(service):
    archive = as_zip([("a", encode_ct()), ("b", encode_ct(number=2))])
    start = archive.rfind(b"PK\x01\x02")
    nameless = bytearray(archive)
    struct.pack_into("<HH", nameless, start + 28, 0, 1)  # its name is read as an extra field
    answer = service.predict(bytes(nameless))
    assert answer.status in (200, 422)
    assert answer.json.get("rule", "") in ("", "nothing_usable")


def test_an_encrypted_archive_is_refused(service):
    archive = bytearray(as_zip([("a", encode_ct())]))
    archive[6] |= 1
    archive[archive.rfind(b"PK\x01\x02") + 8] |= 1
    answer = service.predict(bytes(archive))
    assert [each["rule"] for each in answer.json["refused"]] == ["encrypted_archive"]


def test_a_service_with_keys_answers_who_has_one(serve, write_model, tmp_path):
    client = serve(
        write_model(tmp_path / "model.tflite"), keys=read_keys({"TUMORFLOW_API_KEYS": f"clinic:{KEY}"})
    )
    nobody = client.predict(encode_ct())
    assert (nobody.status, nobody.json["rule"], nobody.headers["www-authenticate"]) == (
        401,
        "not_authenticated",
        "Bearer",
    )
    assert client.predict(encode_ct(), Authorization=f"Bearer {KEY}x").status == 401
    assert client.ask("/metrics").status == 401
    assert client.ask("/version").status == 401
    assert client.ask("/healthz").status == 200
    assert client.ask("/readyz").status == 200
    right = {"Authorization": f"Bearer {KEY}"}
    for headers in (right, {"X-API-Key": KEY}, {**right, "X-API-Key": "a proxy's own"}):
        assert client.predict(encode_ct(), **headers).status == 200
    assert json.loads(client.log[-1])["caller"] == "clinic"
    assert KEY not in "".join(client.log)


def test_with_keys_whatever_is_not_open_needs_one(serve, write_model, tmp_path):
    client = serve(
        write_model(tmp_path / "model.tflite"), keys=read_keys({"TUMORFLOW_API_KEYS": f"clinic:{KEY}"})
    )
    whole = client.ask("/openapi.json", headers={"X-API-Key": KEY}).json
    described = whole["paths"]
    assert set(whole["components"]["securitySchemes"]) == {"bearer", "key"}
    assert whole["security"] == [{"bearer": []}, {"key": []}]
    assert described["/healthz"]["get"]["security"] == []
    answers = {path: client.ask(path, next(iter(described[path])).upper()).status for path in described}
    assert {path for path, status in answers.items() if status != 401} == {"/healthz", "/readyz"}
    assert client.ask("/openapi.json").status == 401
    assert [client.ask(path).status for path in ("/", "/on-device", "/assets/page.js")] == [200] * 3


@pytest.mark.parametrize("value", ["clinic", "clinic:short", f":{KEY}", f"a:{KEY},a:{KEY}", "a:" + "ab" * 20])
def test_keys_that_are_none_or_weak_are_refused(value):
    with pytest.raises(ParameterError) as error:
        read_keys({"TUMORFLOW_API_KEYS": value})
    assert KEY not in str(error.value)


def test_what_is_asked_is_described_and_counted(service):
    described = service.ask("/openapi.json").json
    assert "security" not in described, "nobody needs a key"
    assert set(described["paths"]) >= {"/predict", "/healthz", "/readyz", "/version", "/metrics"}
    answer = described["components"]["schemas"]["Prediction"]["properties"]
    assert {"class", "confidence", "probabilities", "patients", "slices", "refused", "model"} <= set(answer)
    service.predict(encode_ct(), b"nothing")
    text = service.ask("/metrics").content.decode()
    assert 'tumorflow_requests_total{route="/predict",status="200"} 1.0' in text
    assert 'tumorflow_refused_files_total{rule="not_dicom"} 1.0' in text
    assert service.ask("/version").json["model"]["name"] == "tiny"


def test_an_answer_that_takes_too_long_is_given_up(serve, write_model, tmp_path, monkeypatch):
    from tumorflow.litert import Classifier

    answer_at_once = Classifier.answer_all
    client = serve(write_model(tmp_path / "model.tflite"), answer_s=0.3)
    slow = threading.Event()

    def answer(self, slices):
        slow.wait(0.2)
        return answer_at_once(self, slices)

    monkeypatch.setattr(Classifier, "answer_all", answer)
    late = client.predict(*[encode_ct(number=number) for number in range(20)])
    assert (late.status, late.json["rule"]) == (503, "too_long")
    slow.set()
    assert client.predict(encode_ct()).status == 200
    assert list(client.scratch.iterdir()) == []


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_file_whose_frames_take_too_long_is_given_up(serve, write_model, tmp_path, processes):
    """Its problem comes out of another process as it was."""
    frames = build_ct(np.zeros((64, 64), np.int16), NumberOfFrames=2000)
    frames.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    frames.PixelData = frames.PixelData * 2000
    body = io.BytesIO()
    frames.save_as(body, enforce_file_format=True)
    client = serve(write_model(tmp_path / "model.tflite"), processes=processes, answer_s=0.3)
    late = client.predict(body.getvalue())
    assert (late.status, late.json["rule"]) == (503, "too_long")
    deadline = time.monotonic() + 20
    while client.predict(encode_ct()).status != 200:
        assert time.monotonic() < deadline
