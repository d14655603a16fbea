"""The TFLite variants side by side: one picture, and one page that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tumorflow.export.parity import Parity
from tumorflow.export.speed import Speed
from tumorflow.figures import COLOURS, INK, new_figure, to_png
from tumorflow.report_page import render_page

MARKERS = ("o", "s")


@dataclass(frozen=True)
class Measured:
    """A TFLite variant of the model."""

    parity: Parity
    size_bytes: int
    float_nodes: int
    auc: float
    """Macro ROC AUC on the test set; NaN where undefined."""
    speeds: Mapping[int, Speed]
    """By the number of threads."""
    kept: bool
    """In the release."""
    rules: Sequence[Mapping[str, Any]]
    """Of parity, as in decision.json."""


def draw_variants(variants: Mapping[str, Measured]) -> bytes:
    """Returns size (across), latency (up, of each number of threads) and AUC (in words) as PNG."""
    figure, axes = new_figure(7.2, 3.6)
    for index, (name, each) in enumerate(variants.items()):
        size_mb, colour = each.size_bytes / 1e6, COLOURS[index % len(COLOURS)]
        latencies = [speed.median_ms for speed in each.speeds.values()]
        axes.plot([size_mb] * len(latencies), latencies, color=colour, linewidth=1)
        for marker, latency in zip(MARKERS, latencies, strict=False):
            axes.plot(size_mb, latency, marker, color=colour, markersize=8)
        area = "undefined" if np.isnan(each.auc) else f"{each.auc:.3f}"
        axes.annotate(
            f"{name}\nAUC {area}{'' if each.kept else ', left out'}",
            (size_mb, max(latencies)),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontsize=10,
        )
    threads = list(next(iter(variants.values())).speeds) if variants else []
    for marker, count in zip(MARKERS, threads, strict=False):
        told = f"{count} thread{'s' if count > 1 else ''}"
        axes.plot([], [], marker, color=INK, label=told)
    if threads:
        figure.legend(frameon=False, fontsize=10, loc="outside upper right", ncols=len(threads))
    axes.margins(x=0.18, y=0.3)
    axes.set(xlabel="Size of the file, MB", ylabel="One slice, ms (median)")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    return to_png(figure)


def render(variants: Mapping[str, Measured], picture: bytes, classes: Sequence[str]) -> str:
    """Returns the page on the variants as HTML."""
    return render_page(
        Path(__file__).with_name("variants.html"),
        variants=variants,
        picture=picture,
        classes=classes,
        largest=max((each.size_bytes for each in variants.values()), default=1),
    )
