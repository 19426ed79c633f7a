"""Figures of the evidence for a class beside image and prediction, and of deletion and insertion curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from satseg.files import atomic_path
from satseg.visualization.figures.canvas import FAINT, INK, add_legend, save_figure, shorten
from satseg.visualization.palette import Colour, colourise, css

Panels = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
MAX_NAMED = 24


def save_picture(picture: np.ndarray, path: Path) -> None:
    """Write an image, uint8 (H, W, 3), as PNG."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def plot_evidence(
    name: str,
    subtitle: str,
    panels: Panels,
    class_names: Sequence[str],
    palette: Sequence[Colour],
    region: np.ndarray,
    path: Path,
    unit: str = "logit",
    note: str = "",
) -> None:
    """Draw image, prediction, evidence with a colour bar, and overlay side by side.

    Args:
        name: Name of the image.
        subtitle: The target and method.
        panels: Colours (H, W, 3), predicted class indices (H, W), evidence (H, W), and overlay (H, W, 3).
        class_names: K names.
        palette: K colours.
        region: The explained pixels (H, W), boolean; outlined on evidence and overlay.
        path: PNG file to write.
        unit: Unit of the evidence.
        note: A caveat, shown below the name.
    """
    rgb, predicted, evidence, overlaid = panels
    height = 4.1 * min(max(rgb.shape[0] / rgb.shape[1], 0.4), 2.0) + 1.5
    figure = Figure(figsize=(17, height), dpi=100, layout="constrained")
    heading = f"{shorten(name, 60, keep_end=True)}\n{note[:1].upper()}{note[1:]}".rstrip()
    figure.suptitle(heading, x=0.01, ha="left", fontsize=13, color=INK, parse_math=False)
    axes = figure.subplots(1, 4)
    titles = ("image", "prediction", "evidence", "overlay")
    limit = float(np.abs(evidence).max()) or 1.0
    pictures = (rgb, colourise(predicted, palette), evidence, overlaid)
    for axis, title, picture in zip(axes, titles, pictures, strict=True):
        shown = axis.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axis.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
        axis.set_axis_off()
        if title == "evidence":
            bar = figure.colorbar(shown, ax=axis, shrink=0.8, pad=0.02)
            bar.ax.tick_params(labelsize=8, colors=FAINT)
            bar.set_label(f"against  ←  {unit}  →  for", fontsize=9, color=FAINT)
    _outline(axes[2], region, INK)
    _outline(axes[3], region, "white")
    present = [i for i in range(len(class_names)) if (predicted == i).any()][:MAX_NAMED]
    handles = [Patch(facecolor=css(palette[i]), edgecolor="#8c959f", linewidth=0.6) for i in present]
    names = [shorten(class_names[i], 24) for i in present]
    add_legend(figure, handles, names, loc="outside lower left", ncols=10, fontsize=10)
    figure.text(0.99, 0.995, shorten(subtitle, 130), ha="right", va="top", fontsize=11, color=FAINT, parse_math=False)
    save_figure(figure, path)


def _outline(axes: Axes, region: np.ndarray, colour: str) -> None:
    if 0 < np.count_nonzero(region) < region.size and min(region.shape) > 1:
        axes.contour(region, levels=[0.5], colors=[colour], linewidths=0.8)


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
