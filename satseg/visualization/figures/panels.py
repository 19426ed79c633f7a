"""Figures of image panels side by side, and of deletion and insertion curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from satseg.visualization.figures.canvas import FAINT, INK, save_figure, shorten

CELL = 2.6  # inches


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: Title.
        picture: Colours (H, W, 3).
        outlines: Colour and region (H, W) of each outline.
    """

    title: str
    picture: np.ndarray
    outlines: Sequence[tuple[str, np.ndarray]] = field(default=())


def plot_panels(panels: Sequence[Panel], path: Path, columns: int) -> None:
    """Draw panels in rows of `columns` panels, as a PNG file."""
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(CELL * columns, (CELL + 0.3) * rows), dpi=100, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel)
    save_figure(figure, path)


def _draw(axes: Axes, panel: Panel) -> None:
    axes.imshow(panel.picture, interpolation="nearest")
    axes.set_title(shorten(panel.title, 34, keep_end=True), loc="left", fontsize=9, color=INK, parse_math=False)
    for colour, pixels in panel.outlines:
        if 0 < np.count_nonzero(pixels) < pixels.size:
            axes.contour(pixels, levels=[0.5], colors=[colour], linewidths=1.2)


def plot_trust(
    layers: Sequence[tuple[str, Sequence[float], Sequence[float], Sequence[float], Sequence[float]]],
    fractions: Sequence[float],
    path: Path,
) -> None:
    """Draw deletion and insertion curves of each layer, compared with those of a random map.

    Args:
        layers: Title; deletion and insertion curves of the map; those of a random map.
        fractions: Fractions of pixels at which the curves are sampled.
        path: PNG file to write.
    """
    figure = Figure(figsize=(2.9 * len(layers) + 0.4, 3.1), dpi=100, layout="constrained")
    grid = figure.subplots(1, len(layers), squeeze=False, sharey=True).ravel()
    styles = (("deletion", "#0072b2", "-"), ("insertion", "#d55e00", "-"), ("", "#0072b2", ":"), ("", "#d55e00", ":"))
    for axes, (title, *lines) in zip(grid, layers, strict=True):
        for (name, colour, style), line in zip(styles, lines, strict=True):
            axes.plot(fractions, line, style, color=colour, linewidth=1.6, label=name)
        axes.set_title(shorten(title, 30, keep_end=True), loc="left", fontsize=9, color=INK, parse_math=False)
        axes.set_xlabel("share of pixels", fontsize=8, color=FAINT)
        axes.tick_params(labelsize=8, colors=FAINT)
        axes.set_ylim(-0.02, 1.02)
        axes.spines[["top", "right"]].set_visible(False)
    handles = grid[0].get_lines()
    names = ("deletion", "insertion", "deletion, random map", "insertion, random map")
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    grid[0].set_ylabel("probability of the class", fontsize=8, color=FAINT)
    save_figure(figure, path)
