"""Figures of images side by side, such as a scene and its map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from satseg.visualization.figures.canvas import INK, add_legend, save_figure, shorten
from satseg.visualization.palette import IGNORED_GREY, Colour, colourise, css

CELL = 2.6  # inches, of a panel
WIDTH = 12.0  # inches, of a scene and its map
MAX_HEIGHT = 9.0
MAX_NAMED = 24  # classes in the legend, largest first


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


def plot_map(
    name: str,
    rgb: np.ndarray,
    classes: np.ndarray,
    class_names: Sequence[str],
    palette: Sequence[Colour],
    path: Path,
) -> None:
    """Draw a scene and its map side by side, with the share of each class.

    Args:
        name: Name of the scene.
        rgb: Colours (H, W, 3).
        classes: Class indices (H, W); other values are nodata.
        class_names: K names.
        palette: K colours.
        path: PNG file to write.
    """
    height, width = classes.shape
    tall = min(WIDTH / 2 * height / width, MAX_HEIGHT)
    figure = Figure(figsize=(min(WIDTH, 2 * tall * width / height) + 0.3, tall + 1.0), dpi=100, layout="constrained")
    pictures = (shorten(name, 60, keep_end=True), rgb), ("classes", colourise(classes, palette))
    for axes, (title, picture) in zip(figure.subplots(1, 2), pictures, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, loc="left", fontsize=11, color=INK, parse_math=False)
        axes.set_axis_off()
    counts = np.bincount(classes.ravel(), minlength=len(class_names))[: len(class_names)]
    order = [i for i in np.argsort(-counts, kind="stable") if counts[i]][:MAX_NAMED]
    shares = counts / max(counts.sum(), 1)
    handles = [Patch(facecolor=css(palette[i]), edgecolor="#8c959f", linewidth=0.6) for i in order]
    labels = [f"{shorten(class_names[i], 28)} {shares[i]:.1%}" for i in order]
    if counts.sum() < classes.size:
        handles.append(Patch(facecolor=css(IGNORED_GREY), edgecolor="#8c959f", linewidth=0.6))
        labels.append("no data")
    add_legend(figure, handles, labels, loc="outside lower center", ncols=min(6, len(labels)), fontsize=9)
    save_figure(figure, path)
