import pytest

from tumorflow.export.parity import Parity
from tumorflow.export.variants import Built, choose
from tumorflow.params import ExportParams

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
