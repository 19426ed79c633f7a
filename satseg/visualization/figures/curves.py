"""A run's course over its epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from satseg.visualization.figures.canvas import FAINT, INK, add_legend, save_figure, shorten
from satseg.visualization.palette import OKABE_ITO, Colour, css, default_palette

MONITOR = "val/miou"
CLASS_PREFIX = "val/iou/"
LOSSES = {"train/loss": "training", "val/loss": "validation"}
SCORES = {MONITOR: "mIoU", "val/micro_iou": "micro IoU", "val/f1": "F1", "val/accuracy": "accuracy"}
SPEEDS = {"train/images_per_second": "", "images_per_second": ""}
MAX_NAMED = 32  # curves in a legend
PER_COLUMN = 16
MAX_MARKED = 40  # epochs; of more, single points are not drawn
STYLES = ("-", "--", ":")
Row = Mapping[str, Any]
Point = tuple[float, float]


def plot_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw losses, scores, IoU by class, learning rate and speed over epochs; the best epoch is marked.

    Args:
        rows: One mapping an epoch, as in metrics.csv: `epoch`, `train/loss`, `val/loss`, `val/miou`,
            `val/iou/<class>`, `lr`, `train/images_per_second`. Values may be numbers, their text, blank, None
            or NaN; columns may be missing.
        path: PNG file to write.
    """
    figure = Figure(figsize=(12, 8), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    halves = figure.add_gridspec(2, 1)
    above, below = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    axes = above.subplot_mosaic([["loss", "scores", "lr"], ["loss", "scores", "speed"]], width_ratios=[1.2, 1.2, 0.8])
    axes["classes"] = below.subplots()
    best = _best(_points(rows, MONITOR))
    _draw(axes["loss"], rows, LOSSES, "Loss", best)
    _draw(axes["scores"], rows, SCORES, "Validation scores", best)
    _draw(axes["classes"], rows, _class_labels(rows), "Validation IoU by class", best)
    _draw(axes["lr"], rows, {"lr": ""}, "Learning rate", None)
    _draw(axes["speed"], rows, SPEEDS, "Training images a second", None)
    if best is not None:
        axes["scores"].set_title(f"best mIoU {best[1]:.4f}, epoch {best[0]:g}", loc="right", fontsize=8.5, color=FAINT)
    for name in ("scores", "classes"):
        axes[name].set_ylim(0, 1)
    for name in ("lr", "speed"):
        axes[name].set_ylim(bottom=0)
    axes["lr"].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    save_figure(figure, path)


def _class_labels(rows: Sequence[Row]) -> dict[str, str]:
    """Return the classes by their column, in the order of the file, which is that of the classes."""
    columns = dict.fromkeys(key for row in rows for key in row)
    return {key: key.removeprefix(CLASS_PREFIX) for key in columns if key.startswith(CLASS_PREFIX)}


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _points(rows: Sequence[Row], key: str) -> list[Point]:
    numbers = [(_number(row.get("epoch", i)), _number(row.get(key))) for i, row in enumerate(rows)]
    return [(epoch, value) for epoch, value in numbers if epoch is not None and value is not None]


def _best(points: list[Point]) -> Point | None:
    return max(points, key=lambda point: point[1], default=None)


def _draw(axes: Axes, rows: Sequence[Row], keys: Mapping[str, str], title: str, best: Point | None) -> None:
    """Draw one panel: a curve for each column that has values."""
    curves = [
        _Curve(label, points, css(_dark(colour)), STYLES[i // len(OKABE_ITO) % len(STYLES)])
        for i, ((key, label), colour) in enumerate(zip(keys.items(), default_palette(len(keys) or 1), strict=False))
        if (points := _points(rows, key))
    ]
    lines = [curve.draw(axes) for curve in curves]
    _dress(axes, title)
    if not curves:
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center", color=FAINT)
    elif best is not None:
        axes.axvline(best[0], color=FAINT, linestyle=(0, (2, 3)), linewidth=1, zorder=0)
    named = [(curve.last, curve.name, line) for curve, line in zip(curves, lines, strict=True) if curve.label]
    _name(axes, sorted(named, key=lambda entry: -entry[0])[-MAX_NAMED:])


@dataclass(frozen=True)
class _Curve:
    label: str
    points: list[Point]
    colour: str
    style: str

    @property
    def last(self) -> float:
        return self.points[-1][1]

    @property
    def name(self) -> str:
        return f"{shorten(self.label, 24)}  {self.last:.3f}"

    def draw(self, axes: Axes) -> Line2D:
        marker = "o" if len(self.points) <= MAX_MARKED else ""
        epochs, values = zip(*self.points, strict=True)
        return axes.plot(epochs, values, color=self.colour, linestyle=self.style, marker=marker, markersize=3)[0]


def _name(axes: Axes, entries: Sequence[tuple[float, str, Line2D]]) -> None:
    """Add a legend, the highest last value first: within the panel where it is short, else beside it."""
    if not entries:
        return
    _, names, lines = zip(*entries, strict=True)
    beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    place = beside if len(entries) > 4 else {"loc": "best"}
    add_legend(axes, lines, names, fontsize=8.5, ncols=-(-len(entries) // PER_COLUMN), **place)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel("epoch", color=FAINT, fontsize=9)
    axes.grid(color="#d0d7de", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#afb8c1")
    axes.tick_params(colors=FAINT, labelsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))


def _dark(colour: Colour) -> Colour:
    """Return a colour dark enough for a line on white."""
    red, green, blue = colour
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    dim = min(1.0, 160 / max(light, 1))
    return int(red * dim), int(green * dim), int(blue * dim)
