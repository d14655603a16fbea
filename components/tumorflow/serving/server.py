"""The process that serves: a port, its workers, an orderly end."""

import asyncio
import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tumorflow.errors import UnavailableError
from tumorflow.ingestion.header import silence_reading
from tumorflow.serving.guard import Guard
from tumorflow.serving.problems import MEDIA_TYPE, describe
from tumorflow.serving.workers import settle

HEADERS_S = 10.0
"""For a request's headers to arrive, and for a connection's first byte."""
KEEP_ALIVE_S = 20
DRAIN_S = 30
CONNECTIONS = 1000
LARGEST_HEAD = 2**16
"""Bytes of a request's address and headers together, each counted with some more."""
HEADER_BYTES = 64
MOST_BESIDE_BODY = 2**19
"""Bytes of a request that are not its body, with what a socket gives at once; and for each byte of a body:"""
CHUNK_HEAD = 8
_TOO_LARGE = (431, "too_large", f"Headers have at most {LARGEST_HEAD} bytes. Received: more.")
BACKLOG = 256
RESTART_S = 5.0


class PatientProtocol(HttpToolsProtocol):
    """Bounds what uvicorn does not: a connection's head, its idle time, and how many there are."""

    _due: asyncio.TimerHandle | None = None
    _head_bytes = _received = _body = 0
    _refusal = (400, "no_request", "A request is one of HTTP/1.1, with one length. Received: another thing.")

    def connection_made(self, transport: Any) -> None:
        """Starts the clock."""
        super().connection_made(transport)
        self._start_clock(HEADERS_S)
        if len(self.connections) > CONNECTIONS:
            self._refuse(503, "busy", f"{CONNECTIONS} connections are taken at a time. Received: one more.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what has come, of which the parser keeps a header until its end."""
        self._received += len(data)
        super().data_received(data)
        beside_body = self._received - self._body
        if beside_body > MOST_BESIDE_BODY + CHUNK_HEAD * self._body and not self.transport.is_closing():
            self._refusal = _TOO_LARGE
            self.send_400_response("")

    def on_body(self, body: bytes) -> None:
        """Takes a part of a body."""
        self._body += len(body)
        super().on_body(body)

    def on_message_begin(self) -> None:
        """Starts the clock for a connection's next request."""
        self._head_bytes = self._received = self._body = 0
        self._start_clock(HEADERS_S)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Takes a part of the address."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header, or one that stands behind a body."""
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stops the clock: the body has a clock of its own."""
        self._stop_clock()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Starts the clock for whatever comes next, which may be the rest of a body that nobody reads."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._start_clock(KEEP_ALIVE_S)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - may repeat what was sent
        """Answers what is no HTTP request as everything else that is refused."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # another answer has begun, or will
        else:
            self._refuse(*self._refusal)

    def _count(self, *parts: bytes) -> None:
        self._head_bytes += sum(map(len, parts)) + HEADER_BYTES
        if self._head_bytes > LARGEST_HEAD:
            self._refusal = _TOO_LARGE
            raise ValueError  # by which the parser stops, and uvicorn refuses

    def _refuse(self, status: int, rule: str, detail: str) -> None:
        request_id = uuid.uuid4().hex
        body = json.dumps(describe(status, rule, detail, request_id)).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        guard: Any = self.app
        guard.note(request_id, status)

    def _start_clock(self, seconds: float) -> None:
        self._stop_clock()
        self._due = self.loop.call_later(seconds, self.transport.close)

    def _stop_clock(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


def configure(
    application: Guard,
    *,
    host: str,
    port: int,
    certificate: str = "",
    key: str = "",
    drain_s: float = DRAIN_S,
) -> uvicorn.Config:
    """Returns how the application is served.

    Args:
        application: the ASGI application.
        host: to bind to.
        port: to listen at; 0: any that is free.
        certificate: PEM file; empty: no TLS.
        key: its private key.
        drain_s: how long a service that is told to end finishes what was begun.
    """
    return uvicorn.Config(
        application,
        host=host,
        port=port,
        http=PatientProtocol,
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_level="critical",  # tracebacks may hold data; the guard logs
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing is told or decided by a caller's address
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(drain_s),
        ssl_certfile=certificate or None,
        ssl_keyfile=key or None,
    )


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens.

    Raises:
        UnavailableError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UnavailableError(
            f"The service listens at an address of this machine that is free. Received: {host} port {port}, "
            f"{error.strerror or type(error).__name__}. Take another --host or --port."
        ) from error


def serve(config: uvicorn.Config, listening: socket.socket) -> None:
    """Serves until the process is told to end; what is being answered then is finished first."""
    silence_reading()
    settle()
    logging.getLogger("python_multipart").disabled = True  # it repeats what is wrong in a body
    # uvicorn ends in order, and then repeats the signal: its caller has to tidy up
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listening])


class Following:
    """A child process that keeps the champion's folder: MLflow's client stays out of the service."""

    def __init__(self, model: str, folder: Path, poll_s: float) -> None:
        # -P: a folder where somebody works does not hide our packages
        self._command = [sys.executable, "-P", "-m", "tumorflow", "champion", "follow", "--model", model]
        self._command += ["--folder", str(folder), "--poll", str(poll_s), "--while-input-lasts"]
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True, name="following")

    def start(self) -> None:
        """Starts the process, and starts it again whenever it ends."""
        self._thread.start()

    def _keep(self) -> None:
        while not self._stopping.is_set():
            # in a session of its own, so that Ctrl-C ends it through `stop`; its input ends with this
            # process, however that ends
            with subprocess.Popen(  # noqa: S603 - our own module
                self._command, start_new_session=True, stdin=subprocess.PIPE
            ) as self._process:
                self._process.wait()
            self._stopping.wait(RESTART_S)

    def stop(self) -> None:
        """Ends the process."""
        self._stopping.set()
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
            self._process.wait(timeout=DRAIN_S)
