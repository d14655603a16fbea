"""What native code prints, past Python: kept off the terminal while a block runs."""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

STDOUT, STDERR = 1, 2
# a process has one of each: without a lock, one thread would restore what another had put there
_turned_aside = threading.RLock()


@contextmanager
def captured_output(*descriptors: int) -> Iterator[Path]:
    """Yields a file that takes what this process writes while the block runs, whichever thread it is.

    Args:
        descriptors: STDOUT, STDERR, or both.
    """
    with _turned_aside:
        log = tempfile.NamedTemporaryFile("w", prefix="tumorflow-native-", suffix=".log")  # noqa: SIM115 - below
        sys.stdout.flush()
        sys.stderr.flush()
        kept = {number: os.dup(number) for number in descriptors}
        try:
            for number in kept:
                os.dup2(log.fileno(), number)
            with ExitStack() as redirected:
                if STDOUT in kept:
                    redirected.enter_context(redirect_stdout(log))
                if STDERR in kept:
                    redirected.enter_context(redirect_stderr(log))
                yield Path(log.name)
        finally:
            for number, original in kept.items():
                os.dup2(original, number)
                os.close(original)
            with suppress(OSError):  # a full disk: what was said is lost
                log.close()
