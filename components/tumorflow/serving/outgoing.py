"""What the service asks of other servers: at the address that it was told, and at no other."""

import http.client
import queue
import threading
import urllib.error
import urllib.request
from contextlib import closing
from typing import Any


class _Refusal(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would carry a secret, or trust, to where nobody said."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Returns none, by which the redirect is the answer."""


def ask(request: urllib.request.Request | str, patience_s: float, most_bytes: int) -> tuple[int, bytes]:
    """Returns the status of an answer, and what it begins with.

    Args:
        request: whose scheme was checked.
        patience_s: for all of it.
        most_bytes: of the answer that are read.

    Raises:
        OSError: there was no answer of HTTP's form in time.
    """
    answers: queue.SimpleQueue[tuple[int, bytes] | Exception] = queue.SimpleQueue()

    def listen() -> None:
        try:
            answers.put(_ask(request, patience_s, most_bytes))
        except Exception as error:  # noqa: BLE001 - who waits raises it
            answers.put(error)

    # a server that sends a byte now and then is never late by a socket's clock: nobody waits for this thread
    threading.Thread(target=listen, daemon=True).start()
    try:
        answer = answers.get(timeout=patience_s)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _ask(request: urllib.request.Request | str, patience_s: float, most_bytes: int) -> tuple[int, bytes]:
    opener = urllib.request.build_opener(_Refusal)
    try:
        with closing(opener.open(request, timeout=patience_s)) as answer:
            return int(answer.status), answer.read(most_bytes)
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, b""
    except http.client.HTTPException as error:
        raise OSError(type(error).__name__) from error
