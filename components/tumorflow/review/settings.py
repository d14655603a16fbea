"""What the registry's server is told by its environment, and nowhere else."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from tumorflow.errors import ParameterError

FOUR_EYES = "TUMORFLOW_FOUR_EYES"
WEBHOOK_URLS = "TUMORFLOW_WEBHOOK_URLS"
WEBHOOK_SECRET = "TUMORFLOW_WEBHOOK_SECRET"  # noqa: S105 - its name
_SWITCH = {"on": True, "off": False}


@dataclass(frozen=True)
class ReviewSettings:
    """How decisions are made, and who is told."""

    four_eyes: bool = True
    """Nobody decides on a model of their own."""
    webhook_urls: tuple[str, ...] = ()
    webhook_secret: str = ""


def read_settings(environment: Mapping[str, str] = os.environ) -> ReviewSettings:
    """Returns the settings of an environment.

    Raises:
        ParameterError: a value is none of those there are; the message names the variable.
    """
    four_eyes = environment.get(FOUR_EYES, "on").strip().lower()
    if four_eyes not in _SWITCH:
        raise ParameterError(
            f"{FOUR_EYES} is on or off. Received: '{four_eyes}'. Leave it out, and it is on."
        )
    urls = tuple(url.strip() for url in environment.get(WEBHOOK_URLS, "").split(",") if url.strip())
    if any(not url.startswith(("http://", "https://")) for url in urls):
        raise ParameterError(
            f"{WEBHOOK_URLS} lists addresses that begin with https:// or http://, with commas between them. "
            "Received: another one. Look at its value."
        )
    return ReviewSettings(_SWITCH[four_eyes], urls, environment.get(WEBHOOK_SECRET, ""))
