"""Trying again while a store is away."""

import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from tumorflow.errors import ParameterError, UnavailableError

Result = TypeVar("Result")

PATIENCE_S = 120.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0


def patience_s() -> float:
    """Returns how long a store may be away, in seconds: TUMORFLOW_STORE_PATIENCE_S, or two minutes.

    Raises:
        ParameterError: the variable is no number of seconds.
    """
    given = os.environ.get("TUMORFLOW_STORE_PATIENCE_S", str(PATIENCE_S))
    if not given.replace(".", "", 1).isdecimal():
        raise ParameterError(
            f"TUMORFLOW_STORE_PATIENCE_S is a number of seconds. Received: {given!r}. Write for example 120."
        )
    return float(given)


def persist(
    action: Callable[[], Result],
    patience: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Returns what `action` returns, tried again at growing intervals while it says that something is away.

    Args:
        action: raises UnavailableError for what may pass, anything else for what stays.
        patience: seconds after the first failure during which it is tried again.
        sleep: waits for a number of seconds.
        clock: a time in seconds that never goes back.

    Raises:
        UnavailableError: the last failure, when patience has run out.
    """
    deadline = None
    wait = FIRST_WAIT_S
    while True:
        try:
            return action()
        except UnavailableError:
            now = clock()
            deadline = now + patience if deadline is None else deadline
            if now >= deadline:
                raise
        # many transfers fail at once: their waits differ, so that they do not all come back at once
        sleep(min(wait * random.uniform(0.5, 1.0), max(deadline - clock(), 0.0)))  # noqa: S311 - no secret
        wait = min(2 * wait, LONGEST_WAIT_S)
