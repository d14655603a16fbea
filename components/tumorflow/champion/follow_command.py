"""`tumorflow champion follow`: a folder that takes the new champion, and the former one on rollback."""

import argparse
import ipaddress
import os
import signal
import sys
import threading
from pathlib import Path

from tumorflow.champion.follower import Follower, read_registered_champion
from tumorflow.errors import ParameterError, TumorflowError

SUMMARY = "keep a folder at the registry's champion, for a service to read"
EXAMPLE = "tumorflow champion follow --model tumour-classifier --folder champion --listen 127.0.0.1:8700"
POLL_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's one way."""
    ways = parser.add_subparsers(title="commands", required=True, metavar="follow")
    follow = ways.add_parser("follow", help=SUMMARY)
    follow.add_argument("--model", required=True, metavar="NAME", help="registered model")
    follow.add_argument(
        "--folder", required=True, metavar="DIR", help="folder whose `current` is the champion"
    )
    follow.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="take signed webhooks at http://HOST:PORT/champion (default: none)",
    )
    follow.add_argument(
        "--poll",
        type=float,
        default=POLL_S,
        metavar="SECONDS",
        help="how often to ask the registry by itself (default: %(default)g)",
    )
    follow.add_argument("--once", action="store_true", help="bring the folder to the champion, and end")
    follow.add_argument(
        "--while-input-lasts",
        action="store_true",
        help="end with the standard input: with the process that started this one, however that ends",
    )


def run(given: argparse.Namespace) -> int:
    """Returns 0 when the folder is at the champion, or the process was told to end.

    Raises:
        ParameterError: an option or TUMORFLOW_WEBHOOK_SECRET is impossible.
        UsageError: another process follows into the folder.
        DataError, UnavailableError: with --once, why it is not at the champion.
    """
    from tumorflow.review.audit_source import read_entries
    from tumorflow.review.signature import SECRET, check_secret

    if not given.poll > 0:
        raise ParameterError(
            f"--poll is above 0 seconds. Received: {given.poll:g}. Leave it out for {POLL_S:g}."
        )
    if given.while_input_lasts:
        threading.Thread(target=_end_with_input, daemon=True).start()
    follower = Follower(given.model, Path(given.folder), read_entries, read_registered_champion, tell=_print)
    with follower.alone():
        if given.once:
            follower.catch_up()
        elif given.listen:
            host, port = parse_address(given.listen)
            listen(follower, host, port, check_secret(os.environ.get(SECRET, "")), given.poll)
        else:
            Watch(follower, given.poll).run()
    return 0


def parse_address(address: str) -> tuple[str, int]:
    """Returns host and port of HOST:PORT; without a host it is loopback.

    Raises:
        ParameterError: it is none.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    try:
        ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        number = int(port)
        if not 0 < number < 65536:
            raise ValueError
    except ValueError as error:
        raise ParameterError(
            f"--listen is an IP address and a port, as in 127.0.0.1:8700. Received: '{address}'. Mend it."
        ) from error
    return host, number


class Watch:
    """Catches up now and then, and says what changed: each trouble once, until it is over."""

    def __init__(self, follower: Follower, poll_s: float) -> None:
        self.follower = follower
        self.poll_s = poll_s
        self.stopping = threading.Event()
        self.trouble = ""

    def run(self) -> None:
        """Catches up until it is stopped."""
        while True:
            self.look()
            if self.stopping.wait(self.poll_s):
                return

    def look(self) -> None:
        """Catches up once; whatever fails, the champion stays, and the next time may be better."""
        try:
            self.follower.catch_up()
        except TumorflowError as error:
            self.failed(error)
        except OSError as error:
            self.failed(
                TumorflowError(f"The folder can be written. Received: {type(error).__name__}. Look at it.")
            )
        else:
            if self.trouble:
                self.trouble = ""
                _print("champion: followed again")

    def failed(self, error: TumorflowError) -> None:
        """Says why it could not catch up, unless that was said last."""
        if str(error) != self.trouble:
            self.trouble = str(error)
            _print(f"champion: {error}")


def listen(follower: Follower, host: str, port: int, secret: str, poll_s: float) -> None:
    """Serves until it is told to end; catches up at the start, at each webhook and now and then."""
    import uvicorn

    from tumorflow.champion.receiver import PATH, application

    watch = Watch(follower, poll_s)
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    _print(f"champion: webhooks are taken at http://{host}:{port}{PATH}")
    try:
        uvicorn.run(
            application(follower, secret, watch.failed),
            host=host,
            port=port,
            interface="asgi3",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=32,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=10,
        )
    finally:
        watch.stopping.set()


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 2**12):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _print(line: str) -> None:
    print(line, flush=True)
