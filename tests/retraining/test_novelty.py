import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorflow.retraining.novelty import Count, Verdict, count_new, decide


@pytest.mark.parametrize(
    ("patients", "recognised", "expected"),
    [
        (["P1", "P1", "P2"], [False, False, False], Count("patients", 2, 0)),
        (["P1", "P1", "P2"], [True, True, False], Count("patients", 1, 1)),
        (["P1", "P1", "P2"], [False, True, False], Count("patients", 1, 1)),  # one slice is enough to know
        (["", "", ""], [False, True, False], Count("slices", 1, 1)),
        (["P1", "", "P2"], [False, False, True], Count("slices", 1, 1)),
        ([], [], Count("patients", 0, 0)),
    ],
)
def test_counts_patients_of_whom_nothing_is_known(patients, recognised, expected):
    contents = ["a", "a", "b"][: len(patients)]
    if expected == Count("slices", 1, 1) and recognised[1]:
        contents = ["a", "b", "a"]  # the same picture twice counts once
    assert count_new(patients, contents, np.array(recognised, dtype=bool)) == expected


@pytest.mark.parametrize(
    ("count", "champion", "hashes", "expected"),
    [
        (Count("patients", 0, 9), "", ("d", "d"), ("train", "no_champion")),
        (Count("patients", 50, 0), "tiny/3", ("d", "d"), ("stop", "nothing_new")),
        (Count("patients", 0, 9), "tiny/3", ("e", "d"), ("stop", "nothing_new")),
        (Count("patients", 9, 9), "tiny/3", ("e", "d"), ("stop", "too_few")),
        (Count("patients", 10, 9), "tiny/3", ("e", "d"), ("train", "enough")),
        (Count("patients", 10, 9), "tiny/3", ("", ""), ("train", "enough")),  # unknown is not the same
    ],
)
def test_decides(count, champion, hashes, expected):
    verdict = decide(count, 10, champion, *hashes)
    assert (verdict.decision, verdict.reason) == expected


def test_says_the_figures():
    assert decide(Count("slices", 4, 9), 10, "tiny/3") == Verdict(
        "stop", "too_few", "Too few: 4 new slices since tiny/3; at least 10 are asked."
    )
    assert (
        decide(Count("patients", 0, 9), 10, "tiny/3").message == "Nothing new: tiny/3 knows all 9 patients."
    )


counts = st.builds(Count, st.just("patients"), st.integers(0, 50), st.integers(0, 50))


@given(counts, st.tuples(st.integers(1, 50), st.integers(1, 50)), st.sampled_from(["", "tiny/3"]))
def test_asking_fewer_never_stops_what_would_train(count, required, champion):
    few, many = (decide(count, each, champion).decision for each in sorted(required))
    assert few == "train" or many == "stop"
