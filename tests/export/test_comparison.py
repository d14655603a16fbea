import cv2
import numpy as np
import pytest

from tumorflow.export import parity
from tumorflow.export.comparison import Measured, draw_variants, render
from tumorflow.export.speed import Speed
from tumorflow.params import ExportParams

KERAS = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])


def measure(tflite=KERAS, classes=("a", "b"), truth=(0, 0, 1, 1), kept=True, auc=1.0):
    params = ExportParams(classes=classes, bootstrap_resamples=100)
    found = parity.compare(parity.Reference(KERAS, np.array(truth), np.arange(4)), tflite, params)
    speeds = {1: Speed(9.04, 9.3, 46.2), 2: Speed(4.7, 4.8, 46.3)}
    return Measured(found, 4_701_112, 16, auc, speeds, kept, parity.judge("int8", found, params))


def test_the_page_tells_size_speed_and_what_changes():
    flipped = KERAS.copy()
    flipped[1] = 0.45, 0.55
    page = render({"float32": measure(), "int8": measure(flipped, kept=False)}, b"", ("a", "b"))
    for told in ("4.70 MB", "1 thread: 9.0 (9.3) ms, 46 MiB", "1 of 4", "0.3500", "left out", "clinical"):
        assert told in page
    assert page.count('<td class="n">1 of 2</td>') == 1, "the flip stands at its class alone"
    assert "tflite_int8_class_agreement" in page


def test_names_of_classes_are_no_markup():
    page = render({"int8": measure(classes=("<b>", "a & b"))}, b"", ("<b>", "a & b"))
    assert "<b>" not in page
    assert "a &amp; b" in page


@pytest.mark.parametrize(
    "variants",
    [
        {},
        {"int8": measure(auc=np.nan)},
        {"int8": measure(np.full((4, 2), np.nan))},
        {"int8": measure(truth=(0,) * 4)},
    ],
    ids=["none", "undefined AUC", "answers that are no numbers", "a class without slices"],
)
def test_what_is_undefined_is_drawn_and_told_all_the_same(variants):
    picture = draw_variants(variants)
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape[2] == 3
    assert picture == draw_variants(variants)
    assert ("undefined" in render(variants, picture, ("a", "b"))) == (
        "int8" in variants and variants["int8"].auc == 1.0
    )
