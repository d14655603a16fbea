"""Full int8: weights per channel, activations by the range that representative slices give them.

A few nodes lose most of what is lost. They stay in float32 where the whole would miss parity (selective
quantisation: tensorflow.org/lite/performance/quantization_debugger).
"""

import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tumorflow.litert import captured_output

NodeType = Literal["float32", "int8", "uint8"]
FLOAT_NODES = (0, 2, 4, 8, 16)
"""How many nodes stay in float32, tried in this order: each makes the file larger and slower."""
DEBUGGED_SLICES = 24


def convert_int8(
    model: Any, slices: Sequence[npt.NDArray[np.uint8]], float_nodes: Sequence[str], io_type: NodeType
) -> bytes:
    """Returns a Keras model in int8 as a TFLite flatbuffer with a batch of one.

    Args:
        model: a Keras model, (batch, height, width, 3) float32 0–255 → (batch, classes) probabilities.
        slices: representative ones, uint8 (height, width, 3).
        float_nodes: nodes that stay in float32, by the names of `rank_nodes`.
        io_type: of input and output.
    """
    import tensorflow as tf

    with _quiet():
        converter = _prepare(model, slices, io_type)
        if not float_nodes:
            converted: bytes = converter.convert()
            return converted
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=lambda: _feed(slices[:1]),
            debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=list(float_nodes)),
        )
        mixed: bytes = debugger.get_nondebug_quantized_model()
        return mixed


def rank_nodes(model: Any, slices: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
    """Returns the names of a model's nodes, the one first that int8 makes most wrong.

    How wrong: the root mean squared error of its output, over the step between two int8 values.
    """
    import tensorflow as tf

    with _quiet():
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=_prepare(model, slices, "float32"),
            debug_dataset=lambda: _feed(slices[:DEBUGGED_SLICES]),
        )
        debugger.run()
        table = io.StringIO()
        debugger.layer_statistics_dump(table)
    rows = list(csv.DictReader(io.StringIO(table.getvalue())))
    wrong = {
        row["tensor_name"]: float(row["mean_squared_error"]) ** 0.5 / float(row["scale"])
        for row in rows
        if float(row["scale"]) > 0
    }
    return sorted(wrong, key=lambda name: -wrong[name])


@contextmanager
def _quiet() -> Iterator[None]:
    with captured_output(), warnings.catch_warnings():
        # of an input in 8 bits, whose range comes from the representative slices
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs", category=UserWarning)
        yield


def _prepare(model: Any, slices: Sequence[npt.NDArray[np.uint8]], io_type: NodeType) -> Any:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _feed(slices)
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        tf.lite.OpsSet.TFLITE_BUILTINS,  # for the nodes that stay in float32
    ]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, io_type)
    return converter


def _feed(slices: Sequence[npt.NDArray[np.uint8]]) -> Iterator[list[npt.NDArray[np.float32]]]:
    for pixels in slices:
        yield [pixels[np.newaxis].astype(np.float32)]
