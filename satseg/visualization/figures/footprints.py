"""Figure of the ground footprints of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from satseg.visualization.figures.canvas import FAINT, INK, add_legend, save_figure, shorten
from satseg.visualization.palette import OKABE_ITO, css

SIDE = 7.5  # inches
MIN_VISIBLE = 0.008  # share of the figure: smaller outlines are drawn as dots


def plot_footprints(outlines: Mapping[str, Sequence[np.ndarray]], labels: tuple[str, str], path: Path) -> None:
    """Draw the outlines of images, coloured by split.

    Args:
        outlines: Corners (n, 2) of each image, by split.
        labels: Labels of the two axes.
        path: PNG file to write.
    """
    corners = np.concatenate([c for some in outlines.values() for c in some])
    low, high = corners.min(0), corners.max(0)
    extent = np.maximum(high - low, 1e-9)
    side = float(extent.max())
    shape = np.clip(extent / side, 0.35, 1) * SIDE
    figure = Figure(figsize=(shape[0] + 1.4, shape[1] + 1.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for colour, some in zip(_colours(len(outlines)), outlines.values(), strict=True):
        axes.add_collection(
            PolyCollection(list(some), facecolors=[(*_unit(colour), 0.35)], edgecolors=[colour], linewidths=0.9)
        )
        tiny = np.array([c.mean(0) for c in some if np.ptp(c, axis=0).max() < MIN_VISIBLE * side])
        if len(tiny):
            axes.scatter(tiny[:, 0], tiny[:, 1], s=14, color=colour, linewidths=0, alpha=0.8)
    axes.set_xlim(low[0] - 0.04 * side, high[0] + 0.04 * side)
    axes.set_ylim(low[1] - 0.04 * side, high[1] + 0.04 * side)
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel(labels[0], color=FAINT, fontsize=9)
    axes.set_ylabel(labels[1], color=FAINT, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(style="plain", useOffset=False)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eaeef2", linewidth=0.6)
    axes.set_axisbelow(True)
    handles = [Patch(facecolor=colour, alpha=0.6) for colour in _colours(len(outlines))]
    names = [f"{shorten(split, 24)} ({len(some)})" for split, some in outlines.items()]
    add_legend(figure, handles, names, loc="outside lower center", ncols=4, fontsize=9)
    save_figure(figure, path)


def _colours(count: int) -> list[str]:
    order = (0, 5, 2, 3, 4, 1, 6)  # blue, vermilion and green first, as they differ most
    return [css(OKABE_ITO[order[i % len(order)]]) for i in range(count)]


def _unit(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
