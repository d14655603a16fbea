"""Full int8: weights per channel, activations by the range that representative slices give them.

A few nodes lose most of what is lost. They stay in float32 where the whole would miss parity (selective
quantisation: tensorflow.org/lite/performance/quantization_debugger).
"""

import csv
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tumorflow.export.conversion import make_converter, quiet_conversion
from tumorflow.native_output import STDERR, captured_output

NodeType = Literal["float32", "int8", "uint8"]
FLOAT_NODES = (0, 16, 32)
"""How many nodes stay in float32, tried in this order: each makes the file larger and slower."""
DEBUGGED_SLICES = 24
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
FLOAT_FRACTION = 0.05
"""Of all weights, that may stay in float32 together: each of them makes the file three bytes longer."""


def convert_int8(
    model: Any, slices: Sequence[npt.NDArray[np.uint8]], float_nodes: Sequence[str], io_type: NodeType
) -> bytes:
    """Returns a Keras model in int8 as a TFLite flatbuffer with a batch of one.

    Args:
        model: a Keras model, (batch, height, width, 3) float32 0–255 → (batch, classes) probabilities.
        slices: representative ones, uint8 (height, width, 3).
        float_nodes: nodes that stay in float32, by the names of `rank_nodes`.
        io_type: of input and output.

    Raises:
        UnavailableError: the converter gave up.
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


def rank_nodes(model: Any, slices: Sequence[npt.NDArray[np.uint8]], quantised: bytes) -> list[str]:
    """Returns the names of a model's nodes, the one first that int8 makes most wrong.

    One whose weights would bring those of the nodes before it above `FLOAT_FRACTION` is passed over.

    How wrong: the root mean squared error of its output, over the step between two int8 values.

    Args:
        model: as for `convert_int8`.
        slices: representative ones.
        quantised: the model with every node in int8.

    Raises:
        UnavailableError: the converter gave up.
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
    weights = count_weights(quantised)
    ranked = sorted(wrong, key=lambda name: -wrong[name])
    return keep_light(ranked, weights, FLOAT_FRACTION * sum(weights.values()))


def keep_light(names: Sequence[str], weights: Mapping[str, int], most: float) -> list[str]:
    """Returns the names in order, without each that would bring the weights of those kept above `most`."""
    kept, used = [], 0
    for name in names:
        if used + weights.get(name, 0) <= most:
            kept.append(name)
            used += weights.get(name, 0)
    return kept


def count_weights(flatbuffer: bytes) -> dict[str, int]:
    """Returns how many constant numbers the largest operand of each node has, by the name of its output."""
    from ai_edge_litert.interpreter import Interpreter

    with captured_output(STDERR):
        interpreter = Interpreter(model_content=flatbuffer)
        # no public way tells which tensors a node reads
        nodes = interpreter._get_ops_details()
        tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    written = {index for node in nodes for index in node["outputs"]}
    given = {tensor["index"] for tensor in interpreter.get_input_details()}
    weights: dict[int, int] = {}
    for node in nodes:
        read = [index for index in node["inputs"] if index in tensors]
        largest = max(
            (int(np.prod(tensors[at]["shape"])) for at in read if at not in written | given), default=0
        )
        if node["op_name"] in CONVERSIONS:  # of a node's output: has its name where it is the model's
            largest = weights.get(read[0], 0)
        weights[node["outputs"][0]] = largest
    return {tensors[index]["name"]: count for index, count in weights.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    with quiet_conversion("int8"), warnings.catch_warnings():
        # of an input in 8 bits, whose range comes from the representative slices
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs", category=UserWarning)
        yield


def _prepare(model: Any, slices: Sequence[npt.NDArray[np.uint8]], io_type: NodeType) -> Any:
    import tensorflow as tf

    converter = make_converter(model)
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
