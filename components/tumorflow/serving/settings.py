"""What the service is told: limits by its command line, secrets by its environment."""

import hashlib
import hmac
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tumorflow.errors import ParameterError

API_KEYS = "TUMORFLOW_API_KEYS"
SHORTEST_KEY = 24
FEWEST_CHARACTERS = 8  # different ones
MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What a request may ask for; more is refused before it is decoded."""

    body_bytes: int = 512 * MIB
    files: int = 2000
    """In a request, those in its zip archives among them."""
    unpacked_bytes: int = 1024 * MIB
    """Of all the archives of a request."""
    slices: int = 2000
    pixels: int = 4096 * 4096
    """Of a slice."""
    pictured_slices: int = 400
    """For which pictures are made, where they are asked for."""
    requests: int = 64
    """Taken at a time; others get 429."""
    patience_s: float = 30.0
    """For a body to arrive, and a second more for each `SLOWEST_BYTES_PER_S` of it."""
    answer_s: float = 120.0


SLOWEST_BYTES_PER_S = 50_000
CPU_SHARE = Path("/sys/fs/cgroup/cpu.max")


def count_cores(share: Path = CPU_SHARE) -> int:
    """Returns how many cores this process may use, which in a container are fewer than the machine has.

    Args:
        share: what the control group (version 2) allows: microseconds in a period, or `max`.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        allowed, period = share.read_text().split()
        return cores if allowed == "max" else min(cores, max(1, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):
        return cores


@dataclass(frozen=True)
class Keys:
    """API keys, kept as digests alone."""

    digests: Mapping[str, bytes] = field(default_factory=dict)
    """Name → SHA-256 of its key; none: whoever reaches the port may ask."""

    def find_name(self, key: str) -> str | None:
        """Returns whose key this is; None: nobody's."""
        digest = hashlib.sha256(key.encode()).digest()
        # every key is compared, so that the time tells nothing
        names = [name for name, known in self.digests.items() if hmac.compare_digest(known, digest)]
        return names[0] if names else None


def read_keys(environment: Mapping[str, str] = os.environ) -> Keys:
    """Returns the keys of an environment: NAME:KEY, with commas between them.

    Raises:
        ParameterError: one has no name, is too short or easy to guess; no key is repeated in the message.
    """
    digests: dict[str, bytes] = {}
    for position, entry in enumerate(filter(None, environment.get(API_KEYS, "").split(",")), start=1):
        name, _, key = (part.strip() for part in entry.partition(":"))
        if not name.isidentifier() or name in digests:
            raise ParameterError(
                f"{API_KEYS} lists NAME:KEY, each name once. Received: entry {position}, which is another "
                "thing. Give it a name of letters and digits."
            )
        if len(key) < SHORTEST_KEY or len(set(key)) < FEWEST_CHARACTERS or "replace-me" in key:
            raise ParameterError(
                f"A key has at least {SHORTEST_KEY} characters that nobody can guess. Received: a weaker one "
                f"for {name}. Make one: openssl rand -hex 24"
            )
        digests[name] = hashlib.sha256(key.encode()).digest()
    return Keys(digests)
