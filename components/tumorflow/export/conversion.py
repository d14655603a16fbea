"""Keras to TFLite, quietly."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal

from tumorflow.errors import UnavailableError

Variant = Literal["float32", "dynamic"]


def convert(model: Any, variant: Variant) -> bytes:
    """Returns a Keras model as a TFLite flatbuffer with a batch of one.

    Args:
        model: a Keras model, (batch, height, width, 3) float32 0–255 → (batch, classes) probabilities.
        variant: `float32` keeps the weights as they are, `dynamic` stores them in 8 bits and computes in
            float32 where the kernels need it (dynamic-range quantisation).

    Raises:
        UnavailableError: the converter gave up; the message has its last words.
    """
    import tensorflow as tf

    with captured_output() as log:
        try:
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
            if variant == "dynamic":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converted: bytes = converter.convert()
        except Exception as error:
            last_words = str(error).strip().splitlines()[-1:] or ["no detail"]
            raise UnavailableError(
                f"Every operation of the model has a TFLite counterpart. Received for variant {variant}: "
                f"{last_words[0][:300]} ({log.stat().st_size} bytes of log). Leave the attention or backbone "
                "that was changed last, or the variant."
            ) from error
    return converted


@contextmanager
def captured_output() -> Iterator[Path]:
    """Yields a file that takes all that this process prints, native code included, while the block runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    with tempfile.NamedTemporaryFile("w", prefix="tumorflow-converter-", suffix=".log") as log:
        try:
            for number in kept:
                os.dup2(log.fileno(), number)
            with redirect_stdout(log), redirect_stderr(log):
                yield Path(log.name)
        finally:
            log.flush()
            for number, original in kept.items():
                os.dup2(original, number)
                os.close(original)
