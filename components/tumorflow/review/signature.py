"""Signatures of webhooks, in the scheme of MLflow's own (`mlflow/webhooks/delivery.py`): HMAC-SHA256 over
`<delivery id>.<Unix time in s>.<body>`, in Base64 behind `v1,`.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

from tumorflow.errors import ParameterError

SIGNATURE = "X-MLflow-Signature"
DELIVERY_ID = "X-MLflow-Delivery-Id"
TIMESTAMP = "X-MLflow-Timestamp"
SECRET = "TUMORFLOW_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
SHORTEST_SECRET = 32
"""Characters."""
WINDOW_S = 300
"""How far a timestamp may be from the receiver's clock: an older one may be a replay."""


def check_secret(secret: str) -> str:
    """Returns the secret.

    Raises:
        ParameterError: it is too short to be one.
    """
    if len(secret) < SHORTEST_SECRET:
        raise ParameterError(
            f"{SECRET} holds at least {SHORTEST_SECRET} characters. Received: {len(secret)}. "
            "Make one with `openssl rand -hex 32`, the same for sender and receiver."
        )
    return secret


def sign(secret: str, delivery_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Returns the headers that a signed webhook carries."""
    return {
        DELIVERY_ID: delivery_id,
        TIMESTAMP: str(timestamp_s),
        SIGNATURE: _signature(secret, delivery_id, str(timestamp_s), body),
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes, now_s: float) -> bool:
    """Returns whether the body was signed with the secret, at most 5 minutes from now.

    Args:
        secret: shared with the sender.
        headers: of the request; their names in any case.
        body: as it came.
        now_s: the Unix time.
    """
    given = {name.lower(): value for name, value in headers.items()}
    timestamp = given.get(TIMESTAMP.lower(), "")
    expected = _signature(secret, given.get(DELIVERY_ID.lower(), ""), timestamp, body)
    signed = hmac.compare_digest(expected.encode(), given.get(SIGNATURE.lower(), "").encode())
    fresh = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12
    return signed and fresh and abs(now_s - int(timestamp)) <= WINDOW_S


def _signature(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    content = f"{delivery_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret.encode(), content, hashlib.sha256)).decode()
