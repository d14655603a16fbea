"""TensorFlow as every step runs it: silent, seeded, deterministic. Imported only where it is needed."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


def configure(seed: int) -> ModuleType:
    """Returns Keras on TensorFlow, seeded by `seed` (0 to 2**32 − 1), with deterministic operations.

    The first call takes seconds; later ones only seed anew. Python's, NumPy's and TensorFlow's global
    random states are set. Call it before any other import of keras or tensorflow: the native runtime
    reads its log level once, as it loads.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    logging.getLogger("tensorflow").setLevel(logging.ERROR)

    if "tensorflow" in sys.modules:
        import keras
        import tensorflow as tf
    else:
        with _silenced_stderr():
            import keras
            import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    module: ModuleType = keras
    return module


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Discards what is written to the process's standard error while the block runs.

    TensorFlow's libraries tell of oneDNN as they load, before any log level counts; switching oneDNN off to
    be rid of the lines would halve the speed.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
