"""Bearer tokens of an OpenID Connect provider: signature, issuer, audience and expiry are checked."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tumorflow.errors import ParameterError
from tumorflow.serving.outgoing import ask
from tumorflow.serving.problems import ProblemError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Public-key ones: with a shared secret, who checks a token could make one."""
DISCOVERY = "/.well-known/openid-configuration"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LEEWAY_S = 30
KEYS_LAST_S = 3600.0
BETWEEN_FETCHES_S = 30.0
"""At least: a token may name any key, and must not make the service ask the provider each time."""
PATIENCE_S = 5.0
LARGEST_ANSWER = 2**20
LONGEST_TOKEN = 16_384


class Issuer:
    """An OpenID Connect provider, and for whom its tokens must be made out."""

    def __init__(self, address: str, audience: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Checks the settings; the provider is asked when the first token comes.

        Raises:
            ParameterError: the address is not https (on this machine http may be), or there is no audience.
        """
        _refuse_plain(address, "--oidc-issuer")
        if not audience:
            raise ParameterError(
                "--oidc-issuer comes with --oidc-audience, for whom its tokens are made out. Received: none. "
                "Give the client's or service's name at the provider."
            )
        self._address = address
        self._audience = audience
        self._clock = clock
        self._keys: Mapping[str | None, Any] = {}
        self._fetched = self._asked = float("-inf")
        self._fetching = asyncio.Lock()

    async def find_name(self, token: str) -> str | None:
        """Returns whose token this is: `oidc-` and 12 digits of the subject's digest; None: it does not hold.

        Raises:
            ProblemError: the provider's keys cannot be had.
        """
        import jwt

        if len(token) > LONGEST_TOKEN:
            return None
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            return None
        if header.get("alg") not in ALGORITHMS:
            return None
        key = await self._find_key(header.get("kid"))
        if key is None:
            return None
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._audience,
                issuer=self._address,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return "oidc-" + hashlib.sha256(str(claims["sub"]).encode()).hexdigest()[:12]

    async def _find_key(self, name: str | None) -> Any:
        async with self._fetching:
            now = self._clock()
            stale = now - self._fetched > KEYS_LAST_S
            if (stale or name not in self._keys) and now - self._asked >= BETWEEN_FETCHES_S:
                self._asked = now
                try:
                    self._keys = await asyncio.to_thread(self._fetch)
                    self._fetched = now
                except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                    if not self._keys:
                        raise _unreachable() from error
            if not self._keys:
                raise _unreachable()
            return self._keys.get(name)

    def _fetch(self) -> dict[str | None, Any]:
        import jwt

        described = _fetch_json(self._address.rstrip("/") + DISCOVERY)
        if described["issuer"] != self._address:
            raise ValueError("another issuer")
        try:
            _refuse_plain(described["jwks_uri"], "jwks_uri")
            listed = jwt.PyJWKSet.from_dict(_fetch_json(described["jwks_uri"]))
        except (ParameterError, jwt.PyJWTError) as error:
            raise ValueError("no usable keys") from error
        return {each.key_id: each for each in listed.keys if each.public_key_use in (None, "sig")}


def _refuse_plain(address: str, name: str) -> None:
    """Raises ParameterError if an address could be answered by anyone on the way."""
    try:
        parts = urlsplit(address)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        safe = safe and bool(parts.hostname) and parts.username is None
    except (ValueError, AttributeError):
        safe = False
    if not safe:
        raise ParameterError(
            f"{name} is an https address without a password. Received: another thing. "
            "For example: https://login.example.org/realms/ward"
        )


def _fetch_json(address: str) -> Any:
    status, content = ask(address, PATIENCE_S, LARGEST_ANSWER + 1)
    if status != 200 or len(content) > LARGEST_ANSWER:
        raise ValueError("no answer of use")
    return json.loads(content)


def _unreachable() -> ProblemError:
    return ProblemError(
        503,
        "no_identity_provider",
        "Bearer tokens are checked with the keys of their issuer. Received: none from it. Ask again later.",
        retry_after_s=int(BETWEEN_FETCHES_S),
    )
