import numpy as np
import pytest

from tumorflow import figures
from tumorflow.bootstrap import Estimate
from tumorflow.evaluation import plots

HOSTILE = ("$\\frac{", "_hidden", "腫瘍\n\x07", "a very long name of a class that goes on")
NAN = float("nan")


def draw_all():
    curve = (np.array([0.0, 0.2, 1.0]), np.array([0.0, 0.9, 1.0]))
    empty = (np.empty(0), np.empty(0))
    estimates = {name: Estimate(0.5, 0.4, 0.6) for name in HOSTILE} | {"undefined": Estimate(NAN, NAN, NAN)}
    bins = (np.array([NAN, 0.5]), np.array([NAN, 0.4]), np.array([0, 9]))
    image = np.zeros((8, 8), np.uint8)
    history = {name: np.array([1.0, NAN]) for name in ("epoch", "loss", "val_loss", "val_macro_f1")}
    return [
        plots.draw_roc(dict.fromkeys(HOSTILE, curve) | {"undefined": empty}, estimates),
        plots.draw_confusion(np.eye(4, dtype=np.int64) * 3, HOSTILE),
        plots.draw_confusion(np.zeros((4, 4), np.int64), HOSTILE),
        plots.draw_reliability(*bins),
        plots.draw_reliability(np.full(2, NAN), np.full(2, NAN), np.zeros(2, np.int64)),
        plots.draw_intervals(estimates),
        plots.draw_heat(image, image.astype(np.float32)),
        plots.draw_history(history, None),
    ]


def test_pictures_are_png_and_the_same_again_whatever_classes_are_called():
    pictures = draw_all()
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures == draw_all()


@pytest.mark.parametrize("mark", [b"Software", b"tIME", b"Creation"])
def test_pictures_tell_neither_time_nor_software(mark):
    assert mark not in draw_all()[0]


def test_drawing_leaves_pyplot_alone():
    import matplotlib.pyplot as plt

    draw_all()
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("text", "shown"), [("$x$", r"\$x\$"), ("_x_y", " x_y"), ("a\nb", "a?b"), ("x" * 30, "x" * 21 + "…")]
)
def test_labels_are_shown_as_they_are(text, shown):
    assert figures.plain(text) == shown
