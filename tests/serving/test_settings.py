import os

import pytest

from tumorflow.serving.settings import count_cores

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("share", "cores"),
    [
        ("max 100000", CORES),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("100001 100000", min(2, CORES)),
        ("99999999 100000", CORES),
        ("", CORES),
        ("1 2 3", CORES),
    ],
)
def test_a_containers_share_of_the_cores_counts(tmp_path, share, cores):
    (tmp_path / "cpu.max").write_text(share)
    assert count_cores(tmp_path / "cpu.max") == cores
    assert count_cores(tmp_path / "none") == CORES
