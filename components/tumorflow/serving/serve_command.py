"""`tumorflow serve`: the champion's answers over HTTP."""

import argparse
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from tumorflow.errors import ParameterError, UnavailableError, UsageError

if TYPE_CHECKING:
    import socket

    from tumorflow.serving.settings import Keys

SUMMARY = "serve the registry's champion over HTTP, without TensorFlow"
EXAMPLE = "tumorflow serve --model runs/artifacts/<run>/export/release/tflite/model_float32.tflite"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MIB = 2**20
HIGHEST_PORT = 65535
THREADS_BATCH = 4
"""Worker processes are faster with each slice alone."""
LARGEST_BATCH = 16
SPARE_S = 10.0
"""For a service that ends: beyond the longest answer."""
LONGEST_S = 86_400.0
DEFAULT_VARIANT = "float32"
DEFAULT_CHAMPION = "tumorflow-ct"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds where the model comes from, where to listen, and limits."""
    from tumorflow.params import Variant
    from tumorflow.serving.settings import Limits

    source = parser.add_argument_group("model").add_mutually_exclusive_group()
    source.add_argument(
        "--champion",
        metavar="NAME",
        help=f"registered model whose champion is followed (default: {DEFAULT_CHAMPION})",
    )
    source.add_argument(
        "--folder", metavar="DIR", help="folder that `tumorflow champion follow` keeps elsewhere"
    )
    source.add_argument("--model", metavar="FILE", help="one TFLite file of a release, and no other")
    parser.add_argument(
        "--variant",
        choices=Variant.__args__,  # type: ignore[attr-defined]  # a Literal's values
        help=f"which file of a champion's release (default: {DEFAULT_VARIANT})",
    )
    parser.add_argument(
        "--poll", type=float, default=60.0, metavar="SECONDS", help="how often to ask the registry"
    )
    where = parser.add_argument_group("server")
    where.add_argument("--host", default="127.0.0.1", help="address to bind to (default: %(default)s)")
    where.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    where.add_argument("--certificate", default="", metavar="FILE", help="PEM file, for TLS")
    where.add_argument("--key", default="", metavar="FILE", help="the certificate's private key")
    where.add_argument(
        "--oidc-issuer",
        default="",
        metavar="URL",
        help="OpenID Connect provider whose bearer tokens are taken",
    )
    where.add_argument(
        "--oidc-audience", default="", metavar="NAME", help="for whom its tokens must be made out"
    )
    where.add_argument("--workers", type=int, default=0, help="files read at a time (default: one a core)")
    where.add_argument(
        "--worker-processes",
        action="store_true",
        help="give each worker a process of its own: more requests a second, more memory, and a decoder that "
        "crashes ends its own request alone",
    )
    where.add_argument(
        "--batch",
        type=int,
        metavar="SLICES",
        help="answer up to as many slices of concurrent requests by one call of the model; none waits for "
        f"others to come (default: {THREADS_BATCH}; with worker processes each alone)",
    )
    where.add_argument("--drift-log", metavar="DIR", help="folder for the features of what was answered")
    where.add_argument(
        "--pacs", metavar="URL", help="DICOMweb service to which POST /push sends results, as DICOM"
    )
    limits = Limits()
    where.add_argument(
        "--max-body-mib", type=int, default=limits.body_bytes // MIB, help="default: %(default)s"
    )
    where.add_argument(
        "--max-requests", type=int, default=limits.requests, help="at a time; default: %(default)s"
    )
    where.add_argument(
        "--answer-seconds",
        type=float,
        default=limits.answer_s,
        help="at most, for an answer; default: %(default)g",
    )


def run(given: argparse.Namespace) -> int:
    """Returns 0 when the process was told to end.

    Raises:
        ParameterError: a setting is impossible, or the service would be open to others without keys.
        SourceError: the model's file is none.
        UnavailableError: the port cannot be had, or the packages of the extra `serving` are not installed.
    """
    try:
        from tumorflow.serving.server import Following, listen
        from tumorflow.serving.settings import read_keys
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"The service needs the packages of the extra `serving`. Received: no {error.name}. "
            "Install tumorflow[serving]."
        ) from error
    keys = read_keys()
    check(given, open_to_all=not keys.digests and not given.oidc_issuer)
    source = find_source(given)
    listening = listen(given.host, given.port)
    if given.model or given.folder:
        answer(given, source, keys, listening)
        return 0
    following = Following(given.champion or DEFAULT_CHAMPION, source, given.poll)
    following.start()
    try:
        answer(given, source, keys, listening)
    finally:
        following.stop()
    return 0


def find_source(given: argparse.Namespace) -> Path:
    """Returns the model's file, or the folder in which the champion is, made if it is not there.

    Raises:
        UsageError: there is no such file.
    """
    if not given.model:
        folder = Path(given.folder or "champion")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The champion is kept in a folder. Received: {folder}, {error.strerror}. Give another one."
            ) from error
        return folder
    file = Path(given.model)
    if not file.is_file():
        raise UsageError(f"--model names a TFLite file of a release. Received: no file at {file}.")
    return file


def answer(given: argparse.Namespace, source: Path, keys: "Keys", listening: "socket.socket") -> None:
    """Answers requests until the process is told to end."""
    from tumorflow.serving.app import build
    from tumorflow.serving.batches import Batching
    from tumorflow.serving.champions import Champions
    from tumorflow.serving.drift import DriftLog
    from tumorflow.serving.pacs import AUTHORIZATION, Archive
    from tumorflow.serving.scratch import scratch_folder
    from tumorflow.serving.server import configure, serve
    from tumorflow.serving.settings import Limits, count_cores
    from tumorflow.serving.tokens import Issuer
    from tumorflow.serving.workers import Workers

    limits = Limits(
        body_bytes=given.max_body_mib * MIB, requests=given.max_requests, answer_s=given.answer_seconds
    )
    issuer = Issuer(given.oidc_issuer, given.oidc_audience) if given.oidc_issuer else None
    archive = Archive(given.pacs, os.environ.get(AUTHORIZATION, "")) if given.pacs else None
    drift = DriftLog(Path(given.drift_log) if given.drift_log else None)
    count = given.workers or count_cores()
    batch = 1 if given.worker_processes else given.batch or THREADS_BATCH
    workers = Workers(count, processes=given.worker_processes, batch=batch)
    batching = Batching(calls=count, slices=batch)
    champions = Champions(source, given.variant or DEFAULT_VARIANT, _print, workers.prepare, batching)
    try:
        if source.is_dir():
            champions.follow()
        else:
            champions.look()
        if champions.current is None:
            _print("there is no champion yet: requests are refused until there is one")
        scheme = "https" if given.certificate else "http"
        host = f"[{given.host}]" if ":" in given.host else given.host
        _print(f"serve: {scheme}://{host}:{given.port} - for research, not for clinical decisions")
        with scratch_folder() as scratch:
            application, service = build(
                champions, workers, limits, keys, drift, scratch=scratch, log=_print, issuer=issuer
            )
            service.archive = archive
            config = configure(
                application,
                host=given.host,
                port=given.port,
                certificate=given.certificate,
                key=given.key,
                drain_s=given.answer_seconds + SPARE_S,
            )
            serve(config, listening)
    finally:
        champions.stop()
        workers.close()
        drift.close()


def check(given: argparse.Namespace, *, open_to_all: bool) -> None:
    """Returns when the options may be served with.

    Raises:
        ParameterError: one is impossible, or others than this machine could ask without a key.
    """
    for name, value, lowest in (
        ("--port", given.port, 1),
        ("--workers", given.workers, 0),
        ("--batch", 1 if given.batch is None else given.batch, 1),
        ("--max-body-mib", given.max_body_mib, 1),
        ("--max-requests", given.max_requests, 1),
        ("--answer-seconds", given.answer_seconds, 1),
        ("--poll", given.poll, 1),
    ):
        if not value >= lowest:
            raise ParameterError(f"{name} is at least {lowest}. Received: {value}. Leave it out.")
        if isinstance(value, float) and value > LONGEST_S:
            raise ParameterError(f"{name} is at most {LONGEST_S:g}. Received: {value}. Leave it out.")
    if given.batch is not None and given.batch > LARGEST_BATCH:
        raise ParameterError(
            f"--batch is at most {LARGEST_BATCH}; larger calls are slower. Received: {given.batch}. Leave it "
            "out."
        )
    if given.port > HIGHEST_PORT:
        raise ParameterError(f"--port is at most {HIGHEST_PORT}. Received: {given.port}. Leave it out.")
    if given.worker_processes and given.batch is not None and given.batch > 1:
        raise ParameterError(
            "--batch gathers slices in one process. Received: it beside --worker-processes. Leave one out."
        )
    if given.model and given.variant:
        raise ParameterError(
            "--variant names a file of a champion's release. Received: it beside --model, which is one file. "
            "Leave one of them out."
        )
    if given.oidc_audience and not given.oidc_issuer:
        raise ParameterError("--oidc-audience comes with --oidc-issuer. Received: it alone. Give both.")
    _check_certificate(given)
    if open_to_all and given.host not in LOOPBACK:
        raise ParameterError(
            "Who is not on this machine needs a key. Received: --host beyond loopback, and no "
            "TUMORFLOW_API_KEYS. Set it to NAME:KEY, with a key of `openssl rand -hex 24`, or give "
            "--oidc-issuer."
        )


def _check_certificate(given: argparse.Namespace) -> None:
    if bool(given.certificate) != bool(given.key):
        raise ParameterError("--certificate and --key come together. Received: one of them. Give both.")
    for name in ("certificate", "key"):
        path = getattr(given, name)
        if path and not Path(path).is_file():
            raise ParameterError(f"--{name} names a PEM file. Received: no file at {path}.")
    if given.certificate:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(given.certificate, given.key)
        except ssl.SSLError as error:
            raise ParameterError(
                "--certificate and --key name a certificate and its own private key, as PEM. Received: "
                f"{error.reason or 'another thing'}. Look at both files."
            ) from error


def _print(line: str) -> None:
    print(line, flush=True)
