"""The secret under which pseudonyms are made.

The deployment hands it in by an environment variable, as secrets are. Whoever has the key can
tell which pseudonym belongs to a patient whose ID they know, so it lies beside no data.
"""

import binascii
import hashlib
import hmac
import os
import secrets
import tempfile
from itertools import pairwise
from pathlib import Path

from tumorflow.errors import ParameterError, UnavailableError

VARIABLE = "TUMORFLOW_PSEUDONYM_KEY"
MIN_BYTES = 16
REMEDY = "Make one with: openssl rand -hex 32"


def load_or_create_key() -> bytes:
    """Returns the pseudonym key, at least 16 bytes.

    It is the hexadecimal value of TUMORFLOW_PSEUDONYM_KEY, else the content of `pseudonym.key` in the
    user's data folder (XDG Base Directory Specification), which is made on first use, readable by its
    owner only.

    Raises:
        ParameterError: the key is malformed or guessable, or its file is readable by others.
        UnavailableError: the file can be neither read nor made.
    """
    value = os.environ.get(VARIABLE, "")
    if value.strip():
        return parse_key(value, origin=VARIABLE)
    path = _data_home() / "tumorflow" / "pseudonym.key"
    try:
        if not path.exists():
            _create(path)
        if path.stat().st_mode & 0o077:
            raise ParameterError(
                "The pseudonym key's file is readable by its owner only. Received: a file that others may "
                f"read. Set its mode to 600, and change the key if others had access: {path}"
            )
        return parse_key(path.read_text(), origin=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError(
            f"The pseudonym key can be read or made at {path}. Received: {type(error).__name__}. "
            f"Make the folder writable, or set {VARIABLE}."
        ) from error


def parse_key(text: str, origin: str) -> bytes:
    """Returns the bytes of a key written in hexadecimal digits.

    Raises:
        ParameterError: fewer than 32 digits, other characters, or a pattern anybody could guess. The
            message does not hold the value.
    """
    try:
        key = binascii.unhexlify(text.strip())
    except (binascii.Error, ValueError) as error:
        raise ParameterError(
            f"The pseudonym key is written in hexadecimal digits, two a byte. Received: something else in "
            f"{origin}. {REMEDY}"
        ) from error
    if len(key) < MIN_BYTES:
        raise ParameterError(
            f"The pseudonym key has at least {2 * MIN_BYTES} hexadecimal digits. Received: {2 * len(key)} "
            f"in {origin}. {REMEDY}"
        )
    if _is_guessable(key):
        raise ParameterError(
            f"The pseudonym key is random. Received: a repeated or counted pattern in {origin}. {REMEDY}"
        )
    return key


def key_id(key: bytes) -> str:
    """Returns the key's fingerprint, 12 hexadecimal digits, which does not give the key away."""
    return hmac.new(key, b"tumorflow key fingerprint", hashlib.sha256).hexdigest()[:12]


def _is_guessable(key: bytes) -> bool:
    # Fewer than 10 different ones among 16 random bytes: once in 10^8 keys; a repeated word has 8.
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    return len(set(key)) < 10 or len(steps) == 1


def _data_home() -> Path:
    # the specification has relative values ignored
    folder = Path(os.environ.get("XDG_DATA_HOME", ""))
    return folder if folder.is_absolute() else Path.home() / ".local" / "share"


def _create(path: Path) -> None:
    """Writes a random key aside and links it into place: of several processes the first one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, aside = tempfile.mkstemp(prefix=".pseudonym.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            return
    finally:
        Path(aside).unlink(missing_ok=True)
