"""Each TFLite variant of a model, made so that it keeps Keras' answers where that can be had."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.export import conversion, parity, quantisation
from tumorflow.export.bias_correction import correct_bias
from tumorflow.params import ExportParams, Variant

Slices = Sequence[npt.NDArray[np.uint8]]
Check = Callable[[bytes], parity.Parity]


@dataclass(frozen=True)
class Built:
    """One TFLite form of a model."""

    flatbuffer: bytes
    float_nodes: int = 0
    """Of int8: how many nodes stayed in float32."""


def build(
    variant: Variant, network: Any, representative: Slices, check: Check, params: ExportParams
) -> Built:
    """Returns a variant of a Keras model.

    int8 is the smallest that keeps parity: nodes that lose the most stay in float32 until it does. Where none
    does, the one that agrees on most slices.

    Args:
        variant: which.
        network: the Keras model.
        representative: training slices.
        check: flatbuffer → its parity with Keras, on slices that are not the test set's.
        params: limits of parity.

    Raises:
        UnavailableError: the converter gave up.
    """
    if variant == "int8":
        return choose(build_int8(network, representative, params), check, params)

    def convert(model: Any) -> bytes:
        return conversion.convert(conversion.expose_feature_map(model), variant)

    return Built(convert(correct_bias(network, representative, convert) if variant == "dynamic" else network))


def build_int8(network: Any, representative: Slices, params: ExportParams) -> Iterator[Built]:
    """Yields int8 variants, each larger than the one before."""
    exposed = conversion.expose_feature_map(network)
    ranked: list[str] = []
    for count in quantisation.FLOAT_NODES:
        if count and not ranked:
            whole = quantisation.convert_int8(exposed, representative, [], "float32")
            ranked = quantisation.rank_nodes(exposed, representative, whole)
        nodes = ranked[:count]

        def convert(model: Any, nodes: Sequence[str] = nodes) -> bytes:
            return quantisation.convert_int8(
                conversion.expose_feature_map(model), representative, nodes, params.int8_input_output
            )

        yield Built(convert(correct_bias(network, representative, convert)), len(nodes))


def choose(candidates: Iterator[Built], check: Check, params: ExportParams) -> Built:
    """Returns the first candidate that keeps parity; none: the one that agrees most, then differs least."""
    seen = []
    for built in candidates:
        found = check(built.flatbuffer)
        if all(rule["passed"] for rule in parity.judge("", found, params)):
            return built
        seen.append((found.label_agreement, -found.max_probability_difference, built))
    return max(seen, key=lambda each: each[:2])[2]
