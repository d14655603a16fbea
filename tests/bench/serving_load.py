"""The service beside the article's, and beside TensorFlow in its own place; load comes from another process.

python tests/bench/serving_load.py server article|tensorflow|tensorflow-batches KERAS TFLITE PORT
python tests/bench/serving_load.py load PORT FILE CLIENTS REQUESTS
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("normal", "benign", "malignant")
CLIENTS, REQUESTS, ROUNDS = 8, 40, 3
SIZE = 224
BATCH = 4
LITERT = {"litert": ["--worker-processes"], "litert-batches": ["--batch", str(BATCH)]}
WINDOWS = ((-600.0, 1500.0), (40.0, 400.0), (300.0, 1500.0))


def make_model(folder: Path) -> tuple[Path, Path]:
    """Returns the same network as Keras' and as the service's file; its weights do not change its speed."""
    from tumorflow.export.conversion import convert, expose_feature_map, read_head
    from tumorflow.model_file import ModelFile, pack
    from tumorflow.params import TrainParams
    from tumorflow.tensorflow_runtime import configure
    from tumorflow.training.backbones import build_backbone
    from tumorflow.training.network import build_network

    configure(1)
    params = TrainParams()
    network = build_network(build_backbone(params.backbone, params.weights, SIZE)[0], params).whole
    network.save(folder / "model.keras")
    head = read_head(network)
    about = {
        "format": 1,
        "registered_model": "bench",
        "model_hash": "0" * 64,
        "variant": "float32",
        "classes": list(CLASSES),
        "preprocessing": {
            "method": "windows",
            "intensity_unit": "HU",
            "image_size_px": SIZE,
            "windows": [{"window_center_hu": c, "window_width_hu": w} for c, w in WINDOWS],
        },
        "slice_thickness_mm": None,
        "feature_distance_limit": None,
    }
    content = convert(expose_feature_map(network), "float32")
    (folder / "model.tflite").write_bytes(pack(content, ModelFile(about, head.as_arrays() if head else {})))
    return folder / "model.keras", folder / "model.tflite"


def prepare(path: Path) -> np.ndarray:
    """Returns a file's slice as the models take it; the same for every side."""
    from tumorflow.ingestion.dicom import CTFile
    from tumorflow.params import Window
    from tumorflow.tensors import to_tensor

    windows = [Window(window_center_hu=center, window_width_hu=width) for center, width in WINDOWS]
    hounsfield = CTFile(path, path.stat().st_size, 4096 * 4096).slice(0).hounsfield
    return to_tensor(hounsfield, unit="HU", image_size_px=SIZE, windows=windows)


def serve_article(keras_model: Path, port: int) -> None:
    """The article's way: Flask's development server, and `model.predict` for each request."""
    import flask

    from tumorflow.tensorflow_runtime import configure

    model = configure(1).models.load_model(keras_model, compile=False)
    app = flask.Flask("article")

    @app.post("/predict")
    def predict() -> Any:
        with tempfile.NamedTemporaryFile() as kept:
            flask.request.files["file"].save(kept.name)
            pixels = prepare(Path(kept.name))
        probabilities = model.predict(pixels[np.newaxis].astype(np.float32), verbose=0)[0].tolist()
        return flask.jsonify(
            {
                "class": CLASSES[int(np.argmax(probabilities))],
                "confidence": max(probabilities),
                "probabilities": dict(zip(CLASSES, probabilities, strict=True)),
            }
        )

    app.run(host="127.0.0.1", port=port, threaded=True)


class TensorFlowClassifier:
    """Answers as LiteRT's classifier does, by `tf.function`."""

    def __init__(self, keras_model: Path) -> None:
        import tensorflow as tf

        from tumorflow.export.conversion import expose_feature_map
        from tumorflow.tensorflow_runtime import configure

        model = expose_feature_map(configure(1).models.load_model(keras_model, compile=False))
        self._answer = tf.function(lambda pixels: model(pixels, training=False), reduce_retracing=True)

    def answer_all(self, slices: Sequence[np.ndarray]) -> list[Any]:
        from tumorflow.litert import Answer

        given = self._answer(np.stack(slices).astype(np.float32))
        probabilities = given["probabilities"].numpy().astype(np.float64)
        return [Answer(*each) for each in zip(probabilities, given["feature_map"].numpy(), strict=True)]


def serve_tensorflow(tflite: Path, port: int, keras_model: Path, slices: int) -> None:
    """The service, in which TensorFlow answers in LiteRT's place, so many slices at once."""
    from tumorflow.serving.app import build
    from tumorflow.serving.batches import Batches, Batching
    from tumorflow.serving.champions import Champions
    from tumorflow.serving.drift import DriftLog
    from tumorflow.serving.server import configure, listen, serve
    from tumorflow.serving.settings import Keys, Limits
    from tumorflow.serving.workers import Workers

    count = os.cpu_count() or 1
    workers = Workers(count, batch=slices)
    champions = Champions(tflite, "float32", print, workers.prepare)
    champions.look()
    shared = TensorFlowClassifier(keras_model)
    batches = Batches(lambda: shared, Batching(calls=count, slices=slices))
    champions.current.answer = batches.answer  # type: ignore[union-attr, method-assign]
    with tempfile.TemporaryDirectory() as scratch:
        application, _ = build(
            champions, workers, Limits(), Keys(), DriftLog(None), scratch=Path(scratch), log=lambda line: None
        )
        serve(configure(application, host="127.0.0.1", port=port), listen("127.0.0.1", port))


def ask(port: int, file: bytes) -> Callable[[], tuple[float, dict[str, Any]]]:
    """Returns a function that asks once: seconds, and the answer.

    It sends what is ready and reads what comes: the load must not need the cores that it measures.
    """
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.dcm"\r\n\r\n'
        + file
        + b"\r\n--x--\r\n"
    )
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    request = head.encode() + body
    connection: socket.socket | None = None

    def once() -> tuple[float, dict[str, Any]]:
        nonlocal connection
        start = time.perf_counter()
        if connection is None:
            connection = socket.create_connection(("127.0.0.1", port), timeout=120)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += _more(connection)
        headers, _, answer = received.partition(b"\r\n\r\n")
        length = int(headers.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(answer) < length:
            answer += _more(connection)
        seconds = time.perf_counter() - start
        if not headers.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{headers[:40]!r}: {answer[:200]!r}")
        if b"connection: close" in headers.lower():
            connection.close()
            connection = None
        return seconds, json.loads(answer)

    return once


def _more(connection: socket.socket) -> bytes:
    more = connection.recv(2**16)
    if not more:
        raise RuntimeError("the service closed the connection in the middle of an answer")
    return more


def load(port: int, file: Path, clients: int, requests: int) -> None:
    """Prints requests a second, the median and the 99th percentile in ms, and the last answer."""
    content = file.read_bytes()
    seconds: list[float] = []
    answers: list[dict[str, Any]] = []

    def work() -> None:
        once = ask(port, content)
        for _ in range(requests):
            spent, answer = once()
            seconds.append(spent)
        answers.append(answer)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = clients * requests / (time.perf_counter() - start)
    median, slow = np.quantile(seconds, (0.5, 0.99)) * 1000
    print(
        json.dumps({"rate": rate, "median_ms": median, "p99_ms": slow, "answer": answers[0]["probabilities"]})
    )


@contextmanager
def running(side: str, keras_model: Path, tflite: Path) -> Iterator[int]:
    """Yields the port of a service that answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "server", side, str(keras_model), str(tflite), str(port)]
    if side in LITERT:
        command = [sys.executable, "-m", "tumorflow", "serve", "--model", str(tflite), "--port", str(port)]
        command += LITERT[side]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)


def measure(port: int, file: Path, clients: int = CLIENTS, requests: int = REQUESTS) -> dict[str, Any]:
    """Returns what another process measured."""
    command = [sys.executable, __file__, "load", str(port), str(file), str(clients), str(requests)]
    subprocess.run([*command[:-1], "5"], check=True, capture_output=True)  # warms up
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def bare_rate(tflite: Path, file: Path) -> float:
    """Returns slices a second of preprocessing and LiteRT alone, a thread a core."""
    from tumorflow.ingestion.header import silence_reading
    from tumorflow.litert import Classifier

    silence_reading()
    count = os.cpu_count() or 1
    content = tflite.read_bytes()
    classifiers = [Classifier(content) for _ in range(count)]

    def work(classifier: Classifier, slices: int) -> None:
        for _ in range(slices):
            classifier.answer(prepare(file))

    for classifier in classifiers:
        work(classifier, 5)
    threads = [threading.Thread(target=work, args=(classifier, 150)) for classifier in classifiers]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count * 150 / (time.perf_counter() - start)


def bench(tell: Callable[[str, float, str, str], None], file: Path, folder: Path) -> None:
    """Prints the ratios, all of one run: medians, as the machine may have other things to do meanwhile."""
    keras_model, tflite = make_model(folder)
    sides = ("article", "tensorflow", "litert", "tensorflow-batches", "litert-batches")
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    alone = []
    for _ in range(ROUNDS):
        for side in sides:
            with running(side, keras_model, tflite) as port:
                found[side].append(measure(port, file))
        alone.append(bare_rate(tflite, file))
    rate = {side: float(np.median([each["rate"] for each in found[side]])) for side in sides}
    p99_ms = {side: float(np.median([each["p99_ms"] for each in found[side]])) for side in sides}
    bare = float(np.median(alone))
    ours, article = found["litert"][0]["answer"], found["article"][0]["answer"]
    difference = max(abs(ours[name] - article[name]) for name in CLASSES)

    def compare(name: str, side: str, other: str, more: str = "") -> None:
        said = f"{rate[side]:.0f} and {rate[other]:.0f} requests/s{more}"
        goal = "≥ 10" if other == "article" else "≥ 2"
        tell(f"service: {name}", rate[side] / rate[other], goal, said)

    compare(
        "requests/s, ours over the article's", "litert", "article", f", answers differ by {difference:.1e}"
    )
    slow = f"{p99_ms['litert']:.0f} and {p99_ms['article']:.0f} ms"
    tell("service: p99, ours over the article's", p99_ms["litert"] / p99_ms["article"], "≤ 0.5", slow)
    compare("requests/s, LiteRT over tf.function", "litert", "tensorflow")
    compare("the same, both in batches", "litert-batches", "tensorflow-batches")
    both = f"{bare:.0f} slices/s alone, {rate['litert']:.0f} over HTTP"
    tell("service: time a request over bare LiteRT and preprocessing", bare / rate["litert"], "≤ 1.3", both)


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        side, keras_model, tflite, port = sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5])
        if side == "article":
            serve_article(keras_model, port)
        else:
            serve_tensorflow(tflite, port, keras_model, BATCH if side == "tensorflow-batches" else 1)
