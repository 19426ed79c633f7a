"""Figure of the class balance of each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from satseg.visualization.figures.canvas import FAINT, INK, add_legend, save_figure, shorten
from satseg.visualization.palette import IGNORED_GREY, Colour, css

ROW = 0.5  # inches
MAX_NAMED = 40  # classes in the legend, largest first
MIN_LABELLED = 0.04  # share from which a part is labelled
NAME_LIMIT = 28
EDGE = "#8c959f"


def plot_balance(
    shares: Mapping[str, np.ndarray],
    uncounted: Mapping[str, float],
    class_names: Sequence[str],
    palette: Sequence[Colour],
    path: Path,
) -> None:
    """Draw a stacked bar for each split: classes, and ignored pixels or nodata.

    Args:
        shares: Share of each class (K,) of the labelled, valid pixels, by split.
        uncounted: Share of ignored or invalid pixels, by split.
        class_names: K names.
        palette: K colours.
        path: PNG file to write.
    """
    lines = -(-min(len(class_names), MAX_NAMED) // 5)
    figure = Figure(figsize=(9.6, 1.0 + ROW * len(shares) + 0.26 * lines), dpi=110, layout="constrained")
    axes = figure.subplots()
    for row, split in enumerate(shares):
        counted = shares[split] * (1 - uncounted[split])
        parts = [*zip(counted.tolist(), palette, strict=True), (uncounted[split], IGNORED_GREY)]
        left = 0.0
        for width, colour in parts:
            axes.barh(row, width, left=left, height=0.62, color=css(colour), edgecolor="white", linewidth=0.8)
            if width >= MIN_LABELLED:
                style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5, "color": _ink(colour)}
                axes.text(left + width / 2, row, f"{width:.0%}", **style)
            left += width
    axes.set_yticks(range(len(shares)), [shorten(s, NAME_LIMIT) for s in shares], color=INK, parse_math=False)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.tick_params(length=0, labelsize=9, colors=INK)
    axes.set_xlabel("share of the pixels", color=FAINT, fontsize=9)
    axes.spines[:].set_visible(False)
    _legend(figure, shares, class_names, palette)
    save_figure(figure, path)


def _legend(
    figure: Figure, shares: Mapping[str, np.ndarray], class_names: Sequence[str], palette: Sequence[Colour]
) -> None:
    most = np.max(list(shares.values()), axis=0)
    shown = sorted(np.argsort(-most, kind="stable")[:MAX_NAMED].tolist())
    colours, names = [palette[i] for i in shown], [shorten(class_names[i], NAME_LIMIT) for i in shown]
    handles = [Patch(facecolor=css(c), edgecolor=EDGE, linewidth=0.6) for c in (*colours, IGNORED_GREY)]
    add_legend(figure, handles, [*names, "ignored or no data"], loc="outside lower center", ncols=5, fontsize=9)


def _ink(colour: Colour) -> str:
    """Return black or white text, whichever is more legible on a colour."""
    return INK if np.dot(colour, (0.299, 0.587, 0.114)) > 140 else "white"
