"""How often a model is right, by how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from satseg.visualization.figures.canvas import FAINT, INK, save_figure

Bin = tuple[float, int, float | None, float | None]
BAR, GAP = "#4c78a8", "#e45756"


def plot_reliability(bins: Sequence[Bin], error: float, path: Path) -> None:
    """Draw accuracy against confidence, with the share of pixels below.

    Args:
        bins: Upper border, pixels, mean confidence and accuracy of each bin; None where it is empty.
        error: The expected calibration error.
        path: PNG file to write.
    """
    figure = Figure(figsize=(4.6, 4.9), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    width, total = 1 / len(bins), max(sum(b[1] for b in bins), 1)
    for border, _, confidence, accuracy in bins:
        if confidence is not None and accuracy is not None:
            above.bar(border - width / 2, accuracy, width * 0.92, color=BAR, alpha=0.85)
            above.plot([confidence, confidence], [accuracy, confidence], color=GAP, linewidth=1.6)
    above.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, linestyle="--")
    above.text(0.03, 0.94, f"calibration error {error:.3f}", color=INK, fontsize=9, va="top")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    below.bar([b[0] - width / 2 for b in bins], [b[1] / total for b in bins], width * 0.92, color=FAINT)
    below.set(ylabel="share of\npixels", xlabel="confidence")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=INK)
    figure.suptitle("Right as often as sure?", x=0.02, ha="left", fontsize=11, fontweight="bold", color=INK)
    save_figure(figure, path)
