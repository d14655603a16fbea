"""A small model in a file of its own, and a service that runs in this process."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from served_model import flatbuffer, write_model
from service_client import Client

__all__ = ["flatbuffer", "write_model"]  # of served_model, for the tests here


@pytest.fixture
def quiet() -> Iterator[None]:
    """Reads DICOM as a service's process does, until the test ends."""
    from pydicom import config

    from tumorflow.ingestion.header import silence_reading

    logger, settings = logging.getLogger("pydicom"), config.settings
    kept = (logger.level, settings.reading_validation_mode, settings.writing_validation_mode)
    silence_reading()
    yield
    logger.setLevel(kept[0])
    settings.reading_validation_mode, settings.writing_validation_mode = kept[1:]


@pytest.fixture
def serve(tmp_path: Path, quiet: None) -> Iterator[Callable[..., Client]]:
    """Returns a function that serves a model, or a champion's folder, until the test ends."""
    from tumorflow.serving.app import build
    from tumorflow.serving.batches import Batching
    from tumorflow.serving.champions import Champions
    from tumorflow.serving.drift import DriftLog
    from tumorflow.serving.pacs import Archive
    from tumorflow.serving.serve_command import THREADS_BATCH
    from tumorflow.serving.server import configure
    from tumorflow.serving.settings import Keys, Limits
    from tumorflow.serving.tokens import Issuer
    from tumorflow.serving.workers import Workers

    running: list[tuple[uvicorn.Server, threading.Thread, Champions, DriftLog, Workers]] = []

    def start(
        source: Path,
        keys: Keys | None = None,
        drift: Path | None = None,
        processes: bool = False,
        pacs: str = "",
        issuer: Issuer | None = None,
        **limits: Any,
    ) -> Client:
        log: list[str] = []
        batch = 1 if processes else THREADS_BATCH
        workers = Workers(2, processes=processes, batch=batch)
        batching = Batching(calls=2, slices=batch)
        champions = Champions(source, "float32", log.append, workers.prepare, batching)
        champions.look()
        champions.follow()
        scratch = tmp_path / f"scratch-{len(running)}"
        scratch.mkdir()
        drift_log = DriftLog(drift)
        application, service = build(
            champions,
            workers,
            Limits(**limits),
            keys or Keys(),
            drift_log,
            scratch=scratch,
            log=log.append,
            issuer=issuer,
        )
        service.archive = Archive(pacs) if pacs else None
        server = uvicorn.Server(configure(application, host="127.0.0.1", port=0))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread, champions, drift_log, workers))
        while not server.started:
            time.sleep(0.01)
        client = Client(server.servers[0].sockets[0].getsockname()[1], log)
        client.scratch = scratch  # type: ignore[attr-defined]
        return client

    yield start
    for server, thread, champions, drift_log, workers in running:
        champions.stop()
        server.should_exit = True
        thread.join()
        drift_log.close()
        workers.close()


@pytest.fixture
def service(serve: Callable[..., Client], write_model: Callable[..., Path], tmp_path: Path) -> Client:
    return serve(write_model(tmp_path / "model.tflite"))
