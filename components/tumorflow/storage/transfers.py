"""Many files fetched at once, a few at a time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tumorflow.progress import track

Item = TypeVar("Item")

TRANSFERS = 8
BATCH = 1000


def fetch_all(items: Sequence[Item], fetch: Callable[[Item], None]) -> None:
    """Calls `fetch` with every item in a few threads; the first failure ends all, and is raised."""
    stopped = threading.Event()

    def fetch_unless_stopped(item: Item) -> None:
        if not stopped.is_set():
            fetch(item)

    def fetched() -> Iterator[None]:
        for start in range(0, len(items), BATCH):  # so that few tasks wait at any time
            yield from threads.map(fetch_unless_stopped, items[start : start + BATCH])

    with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="fetch") as threads:
        try:
            for _ in track(fetched(), len(items), "fetch", "objects"):
                pass
        finally:
            stopped.set()
