import numpy as np
import pytest

from tumorflow.export import conversion
from tumorflow.export.parity import Parity
from tumorflow.export.quantisation import convert_int8, count_weights, keep_light
from tumorflow.export.variants import Built, choose
from tumorflow.params import ExportParams
from tumorflow.tensorflow_runtime import configure

PARAMS = ExportParams(min_label_agreement=0.95, max_probability_difference=0.2)


def measured(agreement, difference):
    return Parity(100, agreement, round(100 * (1 - agreement)), difference, difference / 2, difference)


@pytest.mark.parametrize(
    ("figures", "chosen"),
    [
        ([(0.99, 0.1), (1.0, 0.0)], 0),
        ([(0.90, 0.1), (0.99, 0.3), (0.96, 0.2), (1.0, 0.0)], 2),
        ([(0.90, 0.3), (0.97, 0.4), (0.97, 0.3)], 2),
        ([(0.97, 0.4), (0.90, 0.1)], 0),
    ],
    ids=["the first that passes", "nothing after it", "none: the nearest", "agreement before difference"],
)
def test_the_first_candidate_that_keeps_parity_is_chosen(figures, chosen):
    tried = []

    def check(flatbuffer):
        tried.append(int(flatbuffer))
        return measured(*figures[int(flatbuffer)])

    candidates = (Built(str(number).encode(), number) for number in range(len(figures)))
    assert choose(candidates, check, PARAMS).float_nodes == chosen
    passing = [
        number
        for number, (agreement, difference) in enumerate(figures)
        if difference <= 0.2 and agreement >= 0.95
    ]
    assert len(tried) == (passing[0] + 1 if passing else len(figures))


def test_nodes_stay_in_float_while_their_weights_fit():
    weights = {"first": 30, "large": 80, "second": 60, "third": 11}
    # 30, then 80 would make 110, 60 makes 90, 11 would make 101; a node without weights costs nothing
    assert keep_light(["first", "large", "second", "third", "free"], weights, 100) == [
        "first",
        "second",
        "free",
    ]


def test_a_feature_map_that_is_an_output_is_as_heavy_as_the_convolution_that_makes_it():
    keras = configure(seed=1)
    pixels = keras.Input((16, 16, 3))
    mapped = keras.layers.Conv2D(8, 3, activation="relu")(pixels)
    pooled = keras.layers.GlobalAveragePooling2D()(mapped)
    network = keras.Model(pixels, keras.layers.Dense(2, activation="softmax")(pooled))
    slices = [np.full((16, 16, 3), grey, np.uint8) for grey in (0, 90, 255)]
    exposed = conversion.expose_feature_map(network)
    counted = count_weights(convert_int8(exposed, slices, [], "float32"))
    # 3 × 3 × 3 × 8 of the convolution: its own node, and the output's, which a float convolution would have
    assert sorted(counted.values())[-2:] == [216, 216]
