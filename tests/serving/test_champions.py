import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ct_files import encode_ct
from servers import find_free_port
from service_client import Client
from waiting import wait_until

from tumorflow.errors import SourceError
from tumorflow.serving.model import load


def put_champion(folder, write_model, version, **about):
    """Points `current` at a version as the follower does: written aside, then renamed."""
    target = folder / "versions" / f"{version}-abc"
    write_model(target / "release" / "tflite" / "model_float32.tflite", **about)
    (target / "version.json").write_text(
        json.dumps({"model": "tiny", "version": str(version), "evidence_hash": "e"})
    )
    aside = folder / ".current.partial"
    aside.symlink_to(f"versions/{target.name}")
    aside.replace(folder / "current")
    return target


def test_without_a_champion_requests_are_told_to_wait(serve, write_model, tmp_path):
    folder = tmp_path / "champion"
    folder.mkdir()
    client = serve(folder)
    for answer in (client.predict(encode_ct()), client.ask("/readyz"), client.ask("/version")):
        assert (answer.status, answer.json["rule"]) == (503, "no_champion")
    assert client.ask("/healthz").status == 200
    put_champion(folder, write_model, 1)
    wait_until(lambda: client.ask("/readyz").status == 200)
    assert client.predict(encode_ct()).json["model"]["version"] == "1"


def test_another_champion_takes_over_without_a_request_that_fails(serve, write_model, tmp_path):
    folder = tmp_path / "champion"
    put_champion(folder, write_model, 1)
    client = serve(folder)
    seen, stopping = [], threading.Event()

    def ask():
        while not stopping.is_set():
            answer = client.predict(encode_ct(), query="?explain=1")
            seen.append((answer.status, answer.json.get("model", {}).get("version")))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in (2, 3):
        put_champion(folder, write_model, version)
        wait_until(lambda version=version: (200, str(version)) in seen)
    stopping.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {"1", "2", "3"}


@pytest.mark.parametrize("damage", ["cut off", "no file", "another size", "says nothing", "odd"])
def test_a_champion_that_cannot_be_loaded_leaves_the_former_one(serve, write_model, tmp_path, damage):
    folder = tmp_path / "champion"
    put_champion(folder, write_model, 1)
    client = serve(folder)
    bad = folder / "versions" / "2-abc"
    bad.mkdir(parents=True)
    about = {"classes": ["normal", "benign"]} if damage == "another size" else {}
    file = write_model(bad / "release" / "tflite" / "model_float32.tflite", **about)
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:1000])
    if damage == "odd":  # a version of the zip format that Python does not read
        content = bytearray(file.read_bytes())
        content[content.rfind(b"PK\x01\x02") + 6] = 255
        file.write_bytes(content)
    if damage == "no file":
        shutil.rmtree(bad / "release")
    about = {} if damage == "says nothing" else {"model": "tiny", "version": "2"}
    (bad / "version.json").write_text(json.dumps(about))
    (folder / "current").unlink()
    (folder / "current").symlink_to("versions/2-abc")
    wait_until(lambda: any("cannot be loaded" in line for line in client.log))
    assert client.predict(encode_ct()).json["model"]["version"] == "1"
    time.sleep(1.5)
    assert sum("cannot be loaded" in line for line in client.log) == 1, "each trouble is told once"
    put_champion(folder, write_model, 3)
    wait_until(lambda: client.predict(encode_ct()).json["model"]["version"] == "3")


def test_a_worker_that_finds_no_model_any_more_says_so(serve, write_model, tmp_path):
    model = write_model(tmp_path / "model.tflite")
    client = serve(model, processes=True)
    assert client.predict(encode_ct()).status == 200
    model.rename(tmp_path / "elsewhere")
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    answer = client.predict(encode_ct())
    assert (answer.status, answer.json["rule"]) == (503, "model_changed")
    (tmp_path / "elsewhere").rename(model)
    assert client.predict(encode_ct()).status == 200


def test_a_service_starts_beside_a_champion_that_cannot_be_loaded(tmp_path, write_model):
    folder = tmp_path / "champion"
    (folder / "versions" / "1-abc").mkdir(parents=True)
    (folder / "current").symlink_to("versions/1-abc")
    process, client = start(tmp_path, "--folder", folder)
    try:
        wait_until(lambda: is_ready(client, "/healthz"))
        assert client.predict(encode_ct()).json["rule"] == "no_champion"
        put_champion(folder, write_model, 2)
        wait_until(lambda: is_ready(client))
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "cannot be loaded" in output
    assert "Traceback" not in output


def test_no_model_is_refused(tmp_path, write_model):
    (tmp_path / "plain.tflite").write_bytes(b"no model")
    with pytest.raises(SourceError):
        load(tmp_path / "plain.tflite")
    with pytest.raises(SourceError, match="KeyError"):
        load(write_model(tmp_path / "model.tflite", preprocessing={}))


def start(tmp_path, *arguments, **environment):
    port = find_free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tumorflow", "serve", "--port", str(port), *map(str, arguments)],
        cwd=tmp_path,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process, Client(port, [])


def is_ready(client, path="/readyz"):
    try:
        return client.ask(path).status == 200
    except OSError:
        return False


def test_the_process_serves_without_tensorflow_and_ends_in_order(tmp_path, write_model):
    model = write_model(tmp_path / "model.tflite")
    process, client = start(tmp_path, "--model", model, "--drift-log", tmp_path / "drift")
    try:
        wait_until(lambda: is_ready(client))
        assert client.predict(encode_ct()).status == 200
        mapped = f"/proc/{process.pid}/maps"
        with open(mapped) as file:  # noqa: PTH123 - not a file of ours
            libraries = file.read()
        assert "litert" in libraries
        assert "tensorflow/" not in libraries
        answers = []
        many = [encode_ct(number=number) for number in range(150)]
        thread = threading.Thread(target=lambda: answers.append(client.predict(*many)))
        thread.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        thread.join()
        assert [answer.status for answer in answers] == [200], "what was begun is finished"
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "for research, not for clinical decisions" in output
    assert "Traceback" not in output


def test_a_service_that_is_killed_while_the_champion_changes_comes_back_whole(tmp_path, write_model):
    folder = tmp_path / "champion"
    put_champion(folder, write_model, 1)
    for version in (2, 3):
        process, client = start(tmp_path, "--folder", folder)
        try:
            wait_until(lambda client=client: is_ready(client))
            put_champion(folder, write_model, version)
            time.sleep(0.9 + 0.1 * version)
        finally:
            process.kill()
            process.communicate()
        process, client = start(tmp_path, "--folder", folder)
        try:
            wait_until(lambda client=client: is_ready(client))
            assert client.predict(encode_ct()).json["model"]["version"] == str(version)
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--host", "0.0.0.0"], {}, "needs a key"),
        (["--model", "missing.tflite"], {}, "no file at missing.tflite"),
        (["--certificate", "a.pem"], {}, "come together"),
        (["--workers", "-1"], {}, "--workers is at least 0"),
        (["--answer-seconds", "inf"], {}, "--answer-seconds is at most 86400"),
        (["--model", "a.tflite", "--variant", "int8"], {}, "Leave one of them out"),
        (["--folder", "/dev/null"], {}, "kept in a folder"),
        (["--port", "65536"], {}, "--port is at most 65535"),
        (["--folder", ".", "--pacs", "ftp://x"], {}, "DICOMweb"),
        (["--folder", ".", "--oidc-issuer", "http://elsewhere.example"], {}, "https address"),
        (["--folder", ".", "--oidc-issuer", "https://login.example"], {}, "--oidc-audience"),
        (["--folder", ".", "--oidc-audience", "ct"], {}, "--oidc-issuer"),
        ([], {"TUMORFLOW_API_KEYS": "a:short"}, "24 characters"),
    ],
)
def test_settings_that_cannot_be_served_with_are_refused(tmp_path, arguments, environment, said):
    process, _ = start(tmp_path, *arguments, **environment)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said in output
    assert "Traceback" not in output


def test_another_champion_takes_over_in_worker_processes_too(serve, write_model, tmp_path):
    folder = tmp_path / "champion"
    put_champion(folder, write_model, 1)
    client = serve(folder, processes=True)
    alone = client.predict(encode_ct()).json
    put_champion(folder, write_model, 2, model_hash="b2" * 32)
    wait_until(lambda: client.predict(encode_ct()).json["model"]["version"] == "2")
    assert client.predict(encode_ct()).json["slices"] == alone["slices"]


def test_a_worker_that_crashes_takes_no_other_request_with_it(serve, write_model, tmp_path):
    client = serve(write_model(tmp_path / "model.tflite"), processes=True)
    answers = []

    def ask():
        answers.extend(client.predict(encode_ct()).status for _ in range(60))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    workers = [child for child in multiprocessing.active_children() if child.name.startswith("SpawnProcess")]
    assert workers
    os.kill(workers[0].pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert answers == [200] * 180


def test_a_port_that_is_taken_is_said(tmp_path, write_model):
    model = write_model(tmp_path / "model.tflite")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tumorflow",
                "serve",
                "--model",
                model,
                "--port",
                f"{taken.getsockname()[1]}",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert "address of this machine that is free" in done.stderr


@pytest.fixture
def certificate(tmp_path):
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "certificate.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return tmp_path / "certificate.pem", tmp_path / "key.pem"


def test_it_serves_over_tls(tmp_path, write_model, certificate):
    model = write_model(tmp_path / "model.tflite")
    process, client = start(
        tmp_path, "--model", model, "--certificate", certificate[0], "--key", certificate[1]
    )
    trusting = ssl.create_default_context(cafile=str(certificate[0]))

    def ask():
        connection = http.client.HTTPSConnection("localhost", client.port, timeout=10, context=trusting)
        try:
            connection.request("GET", "/version")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    try:
        wait_until(lambda: ask() == 200)
        with pytest.raises((OSError, http.client.HTTPException)):
            client.ask("/version")
    finally:
        process.kill()
        process.communicate()


def test_a_certificate_that_is_none_is_said(tmp_path, certificate):
    (tmp_path / "certificate.pem").write_text("no certificate")
    process, _ = start(tmp_path, "--certificate", certificate[0], "--key", certificate[1])
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "as PEM" in output


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_worker_processes_end_with_the_service(tmp_path, write_model, sent):
    model = write_model(tmp_path / "model.tflite")
    process, client = start(tmp_path, "--model", model, "--worker-processes")
    try:
        wait_until(lambda: is_ready(client))
        assert client.predict(encode_ct()).status == 200
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) >= 2
        for each in [process.pid, *map(int, children)] if sent == signal.SIGINT else [process.pid]:
            os.kill(each, sent)  # Ctrl-C reaches all of them
        output, _ = process.communicate(timeout=60)
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    finally:
        process.kill()
    assert "Traceback" not in output
    assert process.returncode == (0 if sent == signal.SIGINT else -signal.SIGKILL)
