"""How a picture is drawn, to PNG bytes; the same numbers give the same bytes.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers too; series also differ in dash.
"""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), "-.")
INK, FAINT = "#1f2933", "#cbd2d9"
DOTS_PER_INCH = 160
LONGEST_LABEL = 22


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, heights: Sequence[float] = (1,)
) -> tuple[Any, Any]:
    """Returns a figure of so many inches and its axes, without touching matplotlib's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, height_ratios=heights)
    for each in np.atleast_1d(axes).ravel():
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["bottom", "left"]].set_color(FAINT)
        each.tick_params(colors=INK, labelsize=10)
        each.grid(color="#eef1f4", linewidth=0.8)
        each.set_axisbelow(True)
    return figure, axes


def plain(text: str) -> str:
    """Returns text that matplotlib shows as it is: no formula between dollars, short, no leading `_`."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    short = printable if len(printable) <= LONGEST_LABEL else printable[: LONGEST_LABEL - 1] + "…"
    return short.replace("\\", "/").replace("$", r"\$").replace("_", " ", 1 if short.startswith("_") else 0)


def to_png(figure: Any) -> bytes:
    """Returns the figure as PNG without the name of the writing software, which would change the bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # a class name in a script that the font lacks shows as boxes; the report's text has it in full
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()
