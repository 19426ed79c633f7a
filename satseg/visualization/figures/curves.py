"""Figure of the training curves of a run."""

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
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from satseg.visualization.figures.canvas import FAINT, INK, add_legend, save_figure, shorten
from satseg.visualization.palette import Colour, css, default_palette

MONITOR = "val/miou"
CLASS_PREFIX = "val/iou/"
LOSSES = {"train/loss": "training", "val/loss": "validation"}
SCORES = {MONITOR: "mIoU", "val/micro_iou": "micro IoU", "val/f1": "F1", "val/accuracy": "accuracy"}
SPEEDS = {"train/images_per_second": "", "images_per_second": ""}
MAX_NAMED = 32  # curves in a legend
PER_COLUMN = 16
MAX_MARKED = 40  # epochs up to which points have markers
STYLES = ((INK, "-"), (FAINT, "--"), (INK, ":"), (FAINT, "-."))  # of curves that are not classes
CASING = withStroke(linewidth=2.9, foreground="#8c959f")  # makes light colours visible on white
Row = Mapping[str, Any]
Point = tuple[float, float]


def plot_curves(
    rows: Sequence[Row], path: Path, colours: Mapping[str, Colour] | None = None, monitor: str = MONITOR
) -> None:
    """Draw losses, scores, IoU by class, learning rate and speed over epochs; mark the best epoch.

    Args:
        rows: One mapping per epoch, as in metrics.csv: `epoch` (from 0; shown from 1), `train/loss`, `val/loss`,
            `val/miou`, `val/iou/<class>`, `lr`, `train/images_per_second`. Values may be numbers, text, blank,
            None or NaN; columns may be missing.
        path: PNG file to write.
        colours: Colour of each class by name; the default palette if None.
        monitor: The score whose highest value marks the best epoch.
    """
    figure = Figure(figsize=(12, 8), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    rows_spec = figure.add_gridspec(2, 1)
    top, bottom = figure.add_subfigure(rows_spec[0]), figure.add_subfigure(rows_spec[1])
    axes = top.subplot_mosaic([["loss", "scores", "lr"], ["loss", "scores", "speed"]], width_ratios=[1.2, 1.2, 0.8])
    axes["classes"] = bottom.subplots()
    best = best_point(points(rows, monitor))
    _draw(axes["loss"], rows, LOSSES, "Loss", best)
    _draw(axes["scores"], rows, SCORES, "Validation scores", best)
    labels = class_labels(rows)
    _draw(axes["classes"], rows, labels, "Validation IoU by class", best, class_colours(labels, colours))
    _draw(axes["lr"], rows, {"lr": ""}, "Learning rate", None)
    _draw(axes["speed"], rows, SPEEDS, "Training images per second", None)
    if best is not None:
        title = f"best {SCORES.get(monitor, monitor)} {best[1]:.3f}, epoch {best[0]:g}"
        axes["scores"].set_title(title, loc="right", fontsize=8.5, color=FAINT)
    for name in ("scores", "classes"):
        axes[name].set_ylim(0, 1)
    for name in ("lr", "speed"):
        axes[name].set_ylim(bottom=0)
    axes["lr"].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    save_figure(figure, path)


def class_labels(rows: Sequence[Row]) -> dict[str, str]:
    """Return the class name of each column, in class order."""
    columns = dict.fromkeys(key for row in rows for key in row)
    return {key: key.removeprefix(CLASS_PREFIX) for key in columns if key.startswith(CLASS_PREFIX)}


def class_colours(labels: Mapping[str, str], colours: Mapping[str, Colour] | None) -> list[Colour]:
    """Return the colour of each class; missing ones are taken from the default palette."""
    own = dict(zip(labels.values(), default_palette(max(len(labels), 1)), strict=False))
    return [(colours or own).get(label, own[label]) for label in labels.values()]


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def points(rows: Sequence[Row], key: str) -> list[Point]:
    """Return epochs, counted from 1, and values of a column, without blanks."""
    numbers = [(_number(row.get("epoch", i)), _number(row.get(key))) for i, row in enumerate(rows)]
    return [(epoch + 1, value) for epoch, value in numbers if epoch is not None and value is not None]


def best_point(curve: Sequence[Point]) -> Point | None:
    """Return the first epoch with the highest value, and that value."""
    return max(curve, key=lambda point: point[1], default=None)


def _draw(
    axes: Axes,
    rows: Sequence[Row],
    keys: Mapping[str, str],
    title: str,
    best: Point | None,
    colours: Sequence[Colour] | None = None,
) -> None:
    """Draw one panel: a curve for each column that has values, in class colours if given."""
    styles = [(css(c), "-") for c in colours] if colours else [STYLES[i % len(STYLES)] for i in range(len(keys))]
    curves = [
        _Curve(label, found, *style, cased=bool(colours))
        for (key, label), style in zip(keys.items(), styles, strict=True)
        if (found := points(rows, key))
    ]
    lines = [curve.draw(axes) for curve in curves]
    _style_axes(axes, title)
    if not curves:
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center", color=FAINT)
    elif best is not None:
        axes.axvline(best[0], color=FAINT, linestyle=(0, (2, 3)), linewidth=1, zorder=0)
    named = [(curve.last, curve.name, line) for curve, line in zip(curves, lines, strict=True) if curve.label]
    _label_curves(axes, sorted(named, key=lambda entry: -entry[0])[-MAX_NAMED:])


@dataclass(frozen=True)
class _Curve:
    label: str
    points: list[Point]
    colour: str
    style: str
    cased: bool

    @property
    def last(self) -> float:
        return self.points[-1][1]

    @property
    def name(self) -> str:
        return f"{shorten(self.label, 24)}  {self.last:.3f}"

    def draw(self, axes: Axes) -> Line2D:
        marker = "o" if len(self.points) <= MAX_MARKED else ""
        epochs, values = zip(*self.points, strict=True)
        line = axes.plot(epochs, values, color=self.colour, linestyle=self.style, marker=marker, markersize=3)[0]
        if self.cased:
            line.set_path_effects([CASING])
        return line


def _label_curves(axes: Axes, entries: Sequence[tuple[float, str, Line2D]]) -> None:
    """Add a legend, highest final value first: inside the panel if it is short, otherwise beside it."""
    if not entries:
        return
    _, names, lines = zip(*entries, strict=True)
    beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    place = beside if len(entries) > 4 else {"loc": "best"}
    add_legend(axes, lines, names, fontsize=8.5, ncols=-(-len(entries) // PER_COLUMN), **place)


def _style_axes(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel("epoch", color=FAINT, fontsize=9)
    axes.grid(color="#d0d7de", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#afb8c1")
    axes.tick_params(colors=FAINT, labelsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
