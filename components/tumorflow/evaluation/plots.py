"""Pictures of the results as PNG bytes; the same numbers give the same bytes."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tumorflow.bootstrap import Estimate
from tumorflow.figures import COLOURS, DASHES, FAINT, INK, new_figure, plain, to_png
from tumorflow.metrics import Floats, Integers


def draw_roc(curves: Mapping[str, tuple[Floats, Floats]], areas: Mapping[str, Estimate]) -> bytes:
    """Returns one-vs-rest ROC curves; `curves` is class → false and true positive rates, maybe empty."""
    figure, axes = new_figure(5.4, 5.2)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, label="chance")
    for index, (name, (false_rate, true_rate)) in enumerate(curves.items()):
        area = areas[name]
        said = "undefined" if np.isnan(area.value) else f"{area.value:.2f} ({area.low:.2f}–{area.high:.2f})"
        axes.plot(
            false_rate,
            true_rate,
            color=COLOURS[index % len(COLOURS)],
            linestyle=DASHES[index % len(DASHES)],
            linewidth=2,
            label=f"{plain(name)}: AUC {said}",
        )
    axes.set(xlabel="1 − specificity", ylabel="Sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc="lower right", frameon=False, fontsize=10)
    return to_png(figure)


def draw_confusion(confusion: Integers, classes: Sequence[str]) -> bytes:
    """Returns the confusion matrix (c, c): counts, shaded by the share of the actual class."""
    side = 1.9 + 0.85 * len(classes)
    figure, axes = new_figure(side + 0.4, side)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if shares[row, column] > 0.55 else INK
        text = f"{count}\n{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=12)
    names = [plain(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=30 if len(classes) > 3 else 0)
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel="Predicted", ylabel="Actual")
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    return to_png(figure)


def draw_reliability(confidence: Floats, accuracy: Floats, count: Integers) -> bytes:
    """Returns the top label's reliability diagram over a histogram of its confidence; arrays are (bins,)."""
    figure, (above, below) = new_figure(5.4, 5.6, rows=2, heights=(3, 1))
    filled = count > 0
    edges = np.linspace(0, 1, len(count) + 1)
    above.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    above.vlines(confidence[filled], confidence[filled], accuracy[filled], color=COLOURS[1], linewidth=1.5)
    above.plot(confidence[filled], accuracy[filled], "o", color=COLOURS[0], markersize=7)
    above.set(ylabel="Share that is right", xlim=(0, 1), ylim=(-0.02, 1.02))
    above.tick_params(labelbottom=False)
    below.bar(edges[:-1], count, width=np.diff(edges), align="edge", color=COLOURS[5], edgecolor="white")
    below.set(xlabel="Confidence in the predicted class", ylabel="Slices", xlim=(0, 1))
    return to_png(figure)


def draw_intervals(estimates: Mapping[str, Estimate]) -> bytes:
    """Returns the metrics with their intervals, one a line, from 0 to 1."""
    figure, axes = new_figure(5.4, 0.7 + 0.27 * len(estimates))
    for line, item in enumerate(estimates.values()):
        axes.hlines(line, item.low, item.high, color=COLOURS[0], linewidth=2.5)
        axes.plot(item.value, line, "o", color=COLOURS[0], markersize=6)
    axes.set_yticks(range(len(estimates)), [plain(name.replace("_", " ")) for name in estimates])
    axes.set(xlim=(-0.02, 1.02), ylim=(len(estimates) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    return to_png(figure)


def draw_heat(image: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> bytes:
    """Returns a slice (height, width) and, beside it, the same slice under its heat map."""
    figure, (left, right) = new_figure(4.4, 2.2, columns=2)
    for axes in (left, right):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
    right.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.65 * heat)
    return to_png(figure)


def draw_history(history: Mapping[str, Floats], best_epoch: int | None) -> bytes:
    """Returns loss and macro-F1 by epoch; `history` is column of history.csv → (epochs,)."""
    figure, (left, right) = new_figure(7.2, 2.9, columns=2)
    for index, (column, label) in enumerate((("loss", "training"), ("val_loss", "validation"))):
        left.plot(
            history["epoch"], history[column], color=COLOURS[index], linestyle=DASHES[index], label=label
        )
    left.set(xlabel="Epoch", ylabel="Loss")
    left.legend(frameon=False, fontsize=10)
    right.plot(history["epoch"], history["val_macro_f1"], color=COLOURS[1], linestyle=DASHES[1])
    right.set(xlabel="Epoch", ylabel="Macro-F1, validation", ylim=(-0.02, 1.02))
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=INK, linewidth=1, linestyle=":")
    return to_png(figure)
