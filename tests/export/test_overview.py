import cv2
import numpy as np

from tumorflow.export.overview import WIDTH_PX, draw_overview


def test_the_plots_that_are_there_fill_the_width(tmp_path):
    for name, colour, shape in (("confusion", 50, (300, 400, 3)), ("roc", 200, (600, 800, 3))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full(shape, colour, np.uint8))
    cv2.imwrite(str(tmp_path / "gradcam-01.png"), np.full((100, 400, 3), 10, np.uint8))
    drawn = cv2.imdecode(np.frombuffer(draw_overview(tmp_path, tmp_path), np.uint8), cv2.IMREAD_COLOR)
    # two of 4:3 would fill the width at 285 px, and 280 is the most; one of 4:1 does at 190; 8 beneath each
    assert drawn.shape == (280 + 8 + 190 + 8, WIDTH_PX, 3)
    assert [int(drawn[140, column, 0]) for column in (0, 372, 373, 745, 746)] == [50, 50, 200, 200, 255]
    assert {int(value) for value in drawn[288:478].reshape(-1)} == {10}
    assert {int(value) for value in drawn[478:].reshape(-1)} == {255}


def test_without_plots_there_is_no_picture(tmp_path):
    assert draw_overview(tmp_path, tmp_path) == b""
