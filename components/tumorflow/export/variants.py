"""Each TFLite variant of a model, made so that it keeps Keras' answers where that can be had."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumorflow.export import conversion, parity, quantisation
from tumorflow.export.bias_correction import correct_bias
from tumorflow.params import ExportParams

Slices = Sequence[npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Variant:
    """One TFLite form of a model."""

    flatbuffer: bytes
    parity: parity.Parity
    float_nodes: int = 0
    """Of int8: how many nodes stayed in float32."""


def build(
    name: str,
    network: Any,
    representative: Slices,
    check: Callable[[bytes], parity.Parity],
    params: ExportParams,
) -> Variant:
    """Returns a variant of a Keras model.

    int8 is the smallest that keeps parity: nodes that lose the most stay in float32 until it does. Where none
    does, the one that agrees on most slices.

    Args:
        name: `float32`, `float16`, `dynamic` or `int8`.
        network: the Keras model.
        representative: training slices.
        check: flatbuffer → its parity with Keras.
        params: limits of parity.
    """
    if name == "int8":
        return choose(build_int8(network, representative, check, params), params)
    whole = correct_bias(network, representative) if name == "dynamic" else network
    flatbuffer = conversion.convert(conversion.expose_feature_map(whole), name)  # type: ignore[arg-type]
    return Variant(flatbuffer, check(flatbuffer))


def build_int8(
    network: Any, representative: Slices, check: Callable[[bytes], parity.Parity], params: ExportParams
) -> Iterator[Variant]:
    """Yields int8 variants, each larger than the one before."""
    model = conversion.expose_feature_map(network)
    ranked: list[str] = []
    for count in quantisation.FLOAT_NODES:
        if count and not ranked:
            ranked = quantisation.rank_nodes(model, representative)
        nodes = ranked[:count]
        flatbuffer = quantisation.convert_int8(model, representative, nodes, params.int8_input_output)
        yield Variant(flatbuffer, check(flatbuffer), len(nodes))


def choose(variants: Iterator[Variant], params: ExportParams) -> Variant:
    """Returns the first variant that keeps parity; none: the one that agrees most, then differs least."""
    seen = []
    for variant in variants:
        if all(rule["passed"] for rule in parity.judge("", variant.parity, params)):
            return variant
        seen.append(variant)
    return max(seen, key=lambda each: (each.parity.label_agreement, -each.parity.max_probability_difference))
