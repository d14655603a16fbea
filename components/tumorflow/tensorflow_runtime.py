"""TensorFlow as every step runs it: silent, seeded, deterministic. Imported only where it is needed."""

import logging
import os
import sys
from types import ModuleType

from tumorflow.native_output import STDERR, captured_output


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
        # its libraries tell of oneDNN as they load, before any log level counts; oneDNN doubles the speed
        with captured_output(STDERR):
            import keras
            import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    module: ModuleType = keras
    return module
