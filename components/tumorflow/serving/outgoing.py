"""What the service asks of other servers: at the address that it was told, and at no other."""

import http.client
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
        patience_s: for each step of it.
        most_bytes: of the answer that are read.

    Raises:
        OSError: there was no answer of HTTP's form.
    """
    opener = urllib.request.build_opener(_Refusal)
    try:
        with closing(opener.open(request, timeout=patience_s)) as answer:
            return int(answer.status), answer.read(most_bytes)
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, b""
    except http.client.HTTPException as error:
        raise OSError(type(error).__name__) from error
