"""Clients that leave, archives and disks that fail, a service that ends: nobody else is disturbed."""

import contextlib
import http.server
import io
import json
import resource
import socket
import struct
import threading
import time
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from ct_files import build_ct, encode_ct
from service_client import as_form, draw_body
from waiting import wait_until

from tumorflow.serving import workers
from tumorflow.serving.pages import read_assets


def working(client):
    text = client.ask("/metrics").content.decode()
    return float(text.partition("\ntumorflow_requests_in_progress ")[2].split()[0])


def send(client, *files, path="/predict"):
    """Returns a connection on which a request was sent and nothing read."""
    body, kind = as_form(files)
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=30)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


@pytest.fixture
def held(monkeypatch):
    """Holds every examination until it is set, or until its file is gone."""
    release, begun = threading.Event(), threading.Event()
    examine = workers.examine

    def wait(model, file, *others):
        begun.set()
        while file.path.exists() and not release.wait(0.01):
            pass
        return examine(model, file, *others)

    wait.release, wait.begun = release, begun
    monkeypatch.setattr(workers, "examine", wait)
    yield wait
    release.set()


def test_work_ends_with_the_client_that_wanted_it_and_nothing_of_it_stays(serve, write_model, tmp_path, held):
    client = serve(write_model(tmp_path / "model.tflite"), requests=1)
    connection = send(client, *(encode_ct(number=number) for number in range(6)))
    assert held.begun.wait(30)
    assert working(client) == 1
    connection.close()
    wait_until(lambda: working(client) == 0)
    assert list(client.scratch.iterdir()) == []
    held.release.set()
    assert client.predict(encode_ct()).status == 200


def test_a_place_is_held_as_long_as_anybody_works_for_it(serve, write_model, tmp_path, monkeypatch):
    release, begun, examine = threading.Event(), threading.Event(), workers.examine

    def wait(*given):
        begun.set()
        release.wait(30)
        return examine(*given)

    monkeypatch.setattr(workers, "examine", wait)
    client = serve(write_model(tmp_path / "model.tflite"), requests=1)
    connection = send(client, encode_ct())
    assert begun.wait(30)
    connection.close()
    time.sleep(0.3)  # that the client has left is known by now
    assert client.predict(encode_ct()).status == 429
    release.set()
    wait_until(lambda: client.predict(encode_ct()).status == 200)


def test_a_decoder_that_does_not_end_costs_its_own_request_alone(serve, write_model, tmp_path, monkeypatch):
    release, examine = threading.Event(), workers.examine

    def hang_first(*given):
        if given[1].number == 2:
            release.wait(60)
        return examine(*given)

    monkeypatch.setattr(workers, "examine", hang_first)
    monkeypatch.setattr("tumorflow.serving.service.GRACE_S", 0.1)
    client = serve(write_model(tmp_path / "model.tflite"), answer_s=0.5)
    late = client.predict(encode_ct(), encode_ct(number=2))
    assert (late.status, late.json["rule"]) == (503, "too_long")
    assert client.predict(encode_ct()).status == 200, "another worker is free"
    release.set()
    wait_until(lambda: list(client.scratch.iterdir()) == [])
    assert not [line for line in client.log if "unforeseen" in line]


def test_files_that_are_stored_while_the_client_leaves_do_not_stay(serve, write_model, tmp_path, monkeypatch):
    from tumorflow.serving import service

    store, begun, left = service.store, threading.Event(), threading.Event()

    def slowly(*given):
        for file in store(*given):
            begun.set()
            left.wait(30)
            yield file

    monkeypatch.setattr(service, "store", slowly)
    client = serve(write_model(tmp_path / "model.tflite"))
    connection = send(client, *(encode_ct(number=number) for number in range(6)))
    assert begun.wait(30)
    connection.close()
    time.sleep(0.3)
    left.set()
    wait_until(lambda: working(client) == 0)
    assert list(client.scratch.iterdir()) == []


@contextmanager
def silent_archive():
    """Yields the address of one that takes connections and says nothing, and how to end that."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = []
        ended = threading.Event()

        def take():
            while not ended.is_set():
                try:
                    taken.append(listening.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", taken
        ended.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


def test_an_archive_that_says_nothing_holds_no_prediction(serve, write_model, tmp_path):
    with silent_archive() as (address, taken):
        client = serve(write_model(tmp_path / "model.tflite"), pacs=address)
        pushing = []
        for number in range(3):
            pushing.append(send(client, encode_ct(draw_body(), number=number), path="/push"))
            wait_until(lambda number=number: len(taken) >= min(2, number + 1))
        assert client.predict(encode_ct()).status == 200
        # no more than there are workers wait for it, and they are counted until they end
        assert pushing[2].recv(100).startswith(b"HTTP/1.1 503 ")
        wait_until(lambda: working(client) == 2)
        for connection in taken:
            connection.close()
    for connection in pushing[:2]:
        assert connection.recv(100).startswith(b"HTTP/1.1 502 ")
    for connection in pushing:
        connection.close()


def test_an_archive_that_trickles_is_given_up(serve, write_model, tmp_path, monkeypatch):
    monkeypatch.setattr("tumorflow.serving.pacs.PATIENCE_S", 0.5)
    with silent_archive() as (address, taken):
        client = serve(write_model(tmp_path / "model.tflite"), pacs=address)
        connection = send(client, encode_ct(draw_body()), path="/push")
        wait_until(lambda: taken)
        began = time.monotonic()
        connection.settimeout(0.2)
        while time.monotonic() - began < 20:
            taken[0].sendall(b"H")
            try:
                answer = connection.recv(100)
                break
            except TimeoutError:
                continue
        connection.close()
    assert answer.startswith(b"HTTP/1.1 502 ")


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Sends whoever asks to another address."""

    target = ""
    heard: list[str] = []  # noqa: RUF012 - the class is the server's state

    def do_POST(self):
        self.heard.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(302)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/stolen")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.heard.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_an_archive_that_sends_elsewhere_is_not_followed(serve, write_model, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = serve(write_model(tmp_path / "model.tflite"), pacs=f"http://127.0.0.1:{server.server_port}")
    body, kind = as_form([encode_ct(draw_body())])
    answer = client.ask("/push", "POST", body, {"Content-Type": kind})
    server.shutdown()
    thread.join()
    server.server_close()
    assert (answer.status, answer.json["rule"]) == (502, "archive_away")
    assert "302" in answer.json["detail"]
    assert Elsewhere.heard == ["/studies"]


def test_an_archive_that_answers_nonsense_is_said(serve, write_model, tmp_path):
    with silent_archive() as (address, taken):
        client = serve(write_model(tmp_path / "model.tflite"), pacs=address)
        connection = send(client, encode_ct(draw_body()), path="/push")
        wait_until(lambda: taken)
        taken[0].recv(2**20)
        taken[0].sendall(b"nonsense\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 502 ")
        connection.close()


def test_a_drift_log_that_cannot_be_written_costs_no_answer(serve, write_model, tmp_path):
    (tmp_path / "drift").mkdir()
    (tmp_path / "drift" / "drift.jsonl").symlink_to("/dev/full")
    client = serve(write_model(tmp_path / "model.tflite"), drift=tmp_path / "drift")
    assert [client.predict(encode_ct()).status for _ in range(2)] == [200, 200]
    wait_until(lambda: len(client.log) >= 3)
    assert "No space left" in json.loads(client.log[-1])["drift_log"]


def test_a_disk_without_room_is_said(service):
    service.scratch.rmdir()
    answer = service.predict(encode_ct())
    assert (answer.status, answer.json["rule"], answer.headers["retry-after"]) == (503, "no_room", "30")
    service.scratch.mkdir()
    assert service.predict(encode_ct()).status == 200


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_is_inflated_at_once_is_refused(service, method):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("a", encode_ct())
    answer = service.predict(packed.getvalue())
    assert [each["rule"] for each in answer.json["refused"]] == ["packed_otherwise"]


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
    ],
    ids=["no request", "negative", "overflowing", "no header"],
)
def test_what_is_no_request_gets_a_problem(service, sent):
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(sent)
        answer = b""
        while more := connection.recv(4096):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["rule"] == "no_request"


def read_to_end(connection):
    answer = b""
    try:
        while more := connection.recv(65536):
            answer += more
    except ConnectionResetError:  # it was not all read there
        pass
    return answer


@pytest.mark.parametrize("part", ["headers", "address", "one header", "trailers"])
def test_a_head_without_end_is_refused(service, part):
    begun = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    beginning = {"address": b"GET /", "one header": b"GET / HTTP/1.1\r\nX: ", "trailers": begun}
    endless = {"headers": b"X: y\r\n" * 100, "trailers": b"X: y\r\n" * 100}.get(part, b"x" * 1000)
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(beginning.get(part, b"GET / HTTP/1.1\r\n"))
        with contextlib.suppress(ConnectionError):
            for _ in range(100_000):  # more than the system keeps between the two
                connection.sendall(endless)
            raise AssertionError("sixty megabytes of it were taken")
        answer = read_to_end(connection)
    if answer:  # what was not read when the connection was closed may cost the answer
        assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 4"))
    assert service.predict(encode_ct()).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\nx",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
    ],
    ids=["a body that nobody reads", "an empty line", "chunks that nobody reads"],
)
def test_a_connection_is_not_held_after_its_answer(serve, write_model, tmp_path, monkeypatch, sent):
    monkeypatch.setattr("tumorflow.serving.server.KEEP_ALIVE_S", 0.5)
    client = serve(write_model(tmp_path / "model.tflite"))
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(sent)
        assert connection.recv(4096).startswith(b"HTTP/1.1 ")
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"\r\n")
        read_to_end(connection)  # which ends


def test_more_connections_than_are_taken_get_a_problem(serve, write_model, tmp_path, monkeypatch):
    monkeypatch.setattr("tumorflow.serving.server.CONNECTIONS", 2)
    client = serve(write_model(tmp_path / "model.tflite"))
    held = [socket.create_connection(("127.0.0.1", client.port), timeout=20) for _ in range(2)]
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert json.loads(body)["rule"] == "busy"
    assert json.loads(body)["request_id"] in client.log[-1]
    for connection in held:
        connection.close()
    wait_until(lambda: client.ask("/healthz").status == 200)


def test_a_place_in_an_archive_that_cannot_be_is_refused(service):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a", b"x" * 10)
    content = bytearray(packed.getvalue())
    entry = content.rfind(b"PK\x01\x02")
    extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)  # APPNOTE 4.5.3: the local header's place in 64 bits
    name_end = entry + 46 + 1
    content[name_end:name_end] = extra
    struct.pack_into("<H", content, entry + 30, len(extra))
    struct.pack_into("<L", content, entry + 42, 2**32 - 1)
    end = content.rfind(b"PK\x05\x06")
    (size,) = struct.unpack_from("<L", content, end + 12)
    struct.pack_into("<L", content, end + 12, size + len(extra))
    answer = service.predict(bytes(content))
    assert (answer.status, answer.json["rule"]) == (422, "nothing_usable")


def test_entries_that_fail_count_as_what_was_unpacked(serve, write_model, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"{number}", bytes(3_000_000))
    content = bytearray(packed.getvalue())
    place = 0
    while (place := content.find(b"PK\x01\x02", place)) >= 0:
        content[place + 16] ^= 1  # the checksum
        place += 4
    client = serve(write_model(tmp_path / "model.tflite"), unpacked_bytes=5_000_000)
    answer = client.predict(bytes(content))
    assert (answer.status, answer.json["rule"]) == (413, "too_large")


def test_a_line_of_the_drift_log_is_whole_or_not_there(tmp_path, write_model):
    from tumorflow.serving.answers import SliceOpinion
    from tumorflow.serving.drift import DriftLog
    from tumorflow.serving.model import load
    from tumorflow.serving.prediction import Examined

    about = load(write_model(tmp_path / "model.tflite")).about
    opinion = SliceOpinion(
        predicted="normal", confidence=1, probabilities={"normal": 1}, file=1, frame=1, patient=1,
        position_mm=None, feature_distance=1.0, warnings=[], picture=None, overlay=None,
    )  # fmt: skip
    slices = [Examined("", opinion, np.zeros(2000, np.float32), None)]
    log = DriftLog(tmp_path / "drift")
    log.write(about, slices)
    file = tmp_path / "drift" / "drift.jsonl"
    one = file.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (one + one // 2, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            log.write(about, slices)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write(about, slices)
    log.close()
    assert [json.loads(line)["model"] for line in file.read_text().splitlines()] == [about.model_hash] * 2


def test_a_file_with_more_frames_than_slices_are_taken_is_refused_at_once(serve, write_model, tmp_path):
    frames = build_ct(np.zeros((8, 8), np.int16), NumberOfFrames=20)
    frames.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    frames.PixelData = frames.PixelData * 20
    body = io.BytesIO()
    frames.save_as(body, enforce_file_format=True)
    client = serve(write_model(tmp_path / "model.tflite"), slices=10)
    answer = client.predict(body.getvalue())
    assert (answer.status, answer.json["rule"]) == (413, "too_many_slices")


def test_files_that_are_refused_take_no_slices_pictures(serve, write_model, tmp_path):
    client = serve(write_model(tmp_path / "model.tflite"), pictured_slices=2)
    answer = client.predict(*[b"no slice"] * 6, encode_ct(), encode_ct(number=2), query="?explain=1").json
    assert [each["overlay"] is None for each in answer["slices"]] == [False, False]


def test_a_service_that_ends_says_so_to_whom_it_does_not_finish(held, write_model, tmp_path):
    import uvicorn

    from tumorflow.serving.app import build
    from tumorflow.serving.champions import Champions
    from tumorflow.serving.drift import DriftLog
    from tumorflow.serving.server import configure
    from tumorflow.serving.settings import Keys, Limits
    from tumorflow.serving.workers import Workers

    pool, log = Workers(1), []
    champions = Champions(write_model(tmp_path / "model.tflite"), "float32", log.append, pool.prepare)
    champions.look()
    application, _ = build(
        champions, pool, Limits(), Keys(), DriftLog(None), scratch=tmp_path, log=log.append
    )
    server = uvicorn.Server(configure(application, host="127.0.0.1", port=0, drain_s=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    body, kind = as_form([encode_ct()])
    with socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=30) as connection:
        connection.sendall(
            f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        assert held.begun.wait(30)
        server.should_exit = True
        answer = connection.recv(65536)
    held.release.set()
    thread.join()
    pool.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"rule": "ending"' in answer


def test_assets_are_listed_once_and_typed(service):
    for path, kind in [
        ("page.js", "text/javascript; charset=utf-8"),
        ("vendor/litert_wasm_compat_internal.wasm", "application/wasm"),
        ("vendor/licences.txt", "text/plain; charset=utf-8"),
    ]:
        answer = service.ask(f"/assets/{path}")
        assert (answer.status, answer.headers["content-type"]) == (200, kind)
    known = len(read_assets())
    for path in ("a" * 300 + ".js", "../pages.py", "page.html", "vendor/../page.js", "vendor", "x" * 3000):
        assert service.ask(f"/assets/{path}").status == 404
    assert len(read_assets()) == known
