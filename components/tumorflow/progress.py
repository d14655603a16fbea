"""Progress of long work: a bar in a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 5.0


def track(items: Iterable[Item], total: int, what: str, unit: str) -> Iterator[Item]:
    """Yields `items` unchanged while telling how many of `total` are done.

    A plain line reads `what: 120/300 unit`; `tumorflow run` draws its bars from these lines.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=what, unit=f" {unit}", leave=False)
        return
    told = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - told >= SECONDS_BETWEEN_LINES and done < total:
            told = time.monotonic()
            tell(what, done, total, unit)
    tell(what, done, total, unit)


def tell(what: str, done: int, total: int, unit: str) -> None:
    """Prints one line of progress at once."""
    print(f"{what}: {done}/{total} {unit}", flush=True)
