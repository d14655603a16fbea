"""The address at which signed webhooks arrive: a small ASGI application.

A webhook moves nothing by itself: it says that there is something new, and the follower looks it up. So a
repeated, reordered or forged one changes nothing, and an answer of 200 means that its entry is handled.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tumorflow.champion.follower import Follower, Handled
from tumorflow.errors import TumorflowError
from tumorflow.review import signature
from tumorflow.review.audit import Entry, from_json, hash_entry

PATH = "/champion"
HEALTH = "/health"
LARGEST_BODY = 64 * 1024
"""Bytes; a decision with the longest reason has a fifth of it."""
ARRIVAL_S = 10

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def application(
    follower: Follower, secret: str, failed: Callable[[TumorflowError], None]
) -> Callable[[Message, Receive, Send], Awaitable[None]]:
    """Returns the ASGI application.

    Args:
        follower: is asked to catch up.
        secret: shared with the sender.
        failed: is told why it could not.
    """

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, text = await respond(scope, receive, follower, secret, failed)
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]}
        )
        await send({"type": "http.response.body", "body": f"{text}\n".encode()})

    return answer


async def respond(
    scope: Message,
    receive: Receive,
    follower: Follower,
    secret: str,
    failed: Callable[[TumorflowError], None],
) -> tuple[int, str]:
    """Returns the status and text of the answer to a request."""
    if scope["path"] == HEALTH:
        return 200, "ok"
    if (scope["method"], scope["path"]) != ("POST", PATH):
        return 404, f"POST {PATH} is all there is"
    try:
        body = await asyncio.wait_for(read_body(receive), ARRIVAL_S)
    except TimeoutError:
        return 408, "too slow"
    if body is None:
        return 413, "too large"
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    if not signature.verify(secret, headers, body, time.time()):
        return 401, "not signed, or too long ago"
    return await asyncio.to_thread(handle, follower, parse(body), failed)


def handle(
    follower: Follower, entry: Entry | None, failed: Callable[[TumorflowError], None]
) -> tuple[int, str]:
    """Returns the status and text of the answer, after the entry was handled, where it concerns the model."""
    if entry is None:
        return 400, "no entry of an audit"
    if entry.event.model != follower.model:
        return 200, "another model"
    if entry.sequence <= follower.read_handled().sequence:
        return 200, "handled before"
    try:
        handled: Handled = follower.catch_up()
    except TumorflowError as error:
        failed(error)
        return 503, "not now"
    if entry.sequence > handled.sequence:
        return 503, "not in the audit yet"
    return 200, "handled"


async def read_body(receive: Receive) -> bytes | None:
    """Returns a request's body; None: it is too large, and was not read further."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += bytes(message.get("body", b""))
        if len(body) > LARGEST_BODY:
            return None
        if not message.get("more_body", False):
            return body


def parse(body: bytes) -> Entry | None:
    """Returns the entry of the audit that a body holds; None: it holds none."""
    try:
        entry = from_json(json.loads(body))
        whole = hash_entry(entry.sequence, entry.at, entry.event, entry.previous_hash) == entry.entry_hash
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if whole else None
