from hypothesis import given
from hypothesis import strategies as st

from tumorflow.storage.names import count_unsafe, is_safe


def test_safe_names():
    assert all(map(is_safe, ["a", "a/b.dcm", "ü +%2e%2e", "...", "a/..b", " ", "C:", "-rf"]))
    unsafe = [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "..\\a",
        "a\0",
        "x" * 256,
        "ü" * 128,
        "\ud800",
    ]
    assert not any(map(is_safe, unsafe))


def test_names_that_cannot_stand_together():
    assert count_unsafe(["a", "b/c", "b/d"]) == 0
    assert count_unsafe(["a", "a/b", "a/b/c"]) == 2
    assert count_unsafe(["a", "a", "../a"]) == 2


@given(st.text())
def test_a_safe_name_stays_below_its_folder(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp()
    assert not is_safe(name) or (root / name).resolve().is_relative_to(root.resolve())
