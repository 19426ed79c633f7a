"""SVG charts for HTML pages, with the page's colours and width, and labels of constant size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.ticker import MaxNLocator

from satseg.visualization.figures.curves import (
    CLASS_PREFIX,
    LOSSES,
    SCORES,
    SPEEDS,
    Point,
    best_point,
    class_colours,
    class_labels,
    points,
)
from satseg.visualization.palette import Colour, css

MAX_LINES = 32  # classes in a chart; beyond that, those with the lowest final value
MAX_POINTS = 240  # per line; longer ones are thinned evenly
BACKGROUNDS: tuple[Colour, ...] = ((255, 255, 255), (21, 27, 35))  # of the light and the dark page
MIN_CONTRAST = 2.2  # of a line to the background; below it, a line gets a grey rim
MAX_DOTTED = 40  # points per line that are drawn as dots
NEUTRAL = ("main", "second", "third", "fourth")  # CSS classes of lines that are not classes


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: Its name.
        value: The value in the legend, as text.
        path: SVG path in percent of the chart, from its top left corner.
        dots: SVG path of its points; empty if there are too many.
        colour: `#rrggbb` of a class; empty for other lines.
        style: The neutral CSS class of a line that is not a class.
        rimmed: Whether it has a rim, as its colour has low contrast to the light or dark background.
    """

    label: str
    value: str
    path: str
    dots: str
    colour: str = ""
    style: str = ""
    rimmed: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over epochs.

    Attributes:
        title: Title.
        note: Text below the chart.
        lines: The lines.
        x_ticks: Position from the left in percent, and label.
        y_ticks: Position from the top in percent, and label.
        marked: Position of the best epoch from the left in percent, if there is one.
    """

    title: str
    note: str
    lines: Sequence[Line]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    marked: float | None


def training_charts(
    rows: Sequence[Mapping[str, Any]], monitor: str, class_names: Sequence[str], palette: Sequence[Colour]
) -> dict[str, Chart]:
    """Return the charts of a run by name (loss, scores, classes, lr, speed), without empty ones.

    Args:
        rows: Rows of metrics.csv, one per epoch.
        monitor: The score whose highest value marks the best epoch.
        class_names: K names.
        palette: K colours.
    """
    best = best_point(points(rows, monitor))
    labels = class_labels(rows)
    colours = dict(zip(labels, class_colours(labels, dict(zip(class_names, palette, strict=True))), strict=True))
    ious = {key: curve for key in labels if (curve := points(rows, key))}
    lowest = sorted(ious, key=lambda key: ious[key][-1][1])[:MAX_LINES]
    few = f"The {MAX_LINES} of {len(ious)} classes with the lowest final value." if len(ious) > MAX_LINES else ""
    own = {key.removeprefix(CLASS_PREFIX): ious[key] for key in ious if key in lowest}
    of_classes = [colours[CLASS_PREFIX + name] for name in own]
    speed = next((curve for key in SPEEDS if (curve := points(rows, key))), [])
    made = {
        "loss": _chart("Loss", {n: points(rows, k) for k, n in LOSSES.items()}, best),
        "scores": _chart("Validation scores", {n: points(rows, k) for k, n in SCORES.items()}, best, top=1.0),
        "classes": _chart("Validation IoU by class", own, best, top=1.0, colours=of_classes, note=few),
        "lr": _chart("Learning rate", {"": points(rows, "lr")}, None),
        "speed": _chart("Training images per second", {"": speed}, None),
    }
    return {name: chart for name, chart in made.items() if chart is not None}


def _chart(
    title: str,
    curves: Mapping[str, Sequence[Point]],
    best: Point | None,
    top: float | None = None,
    colours: Sequence[Colour] | None = None,
    note: str = "",
) -> Chart | None:
    drawn = {label: curve for label, curve in curves.items() if curve}
    if not drawn:
        return None
    epochs = [point[0] for curve in drawn.values() for point in curve]
    left, right = min(epochs), max(max(epochs), min(epochs) + 1)
    values = [point[1] for curve in drawn.values() for point in curve]
    y_ticks = [
        t for t in MaxNLocator(4).tick_values(min(0.0, *values), top or max(*values, 0.0)) if top is None or t <= top
    ]
    low, high = y_ticks[0], y_ticks[-1]
    x_ticks = [t for t in MaxNLocator(8, integer=True, min_n_ticks=1).tick_values(left, right) if left <= t <= right]

    def x(epoch: float) -> float:
        return round(100 * (epoch - left) / (right - left), 2)

    def y(value: float) -> float:
        return round(100 * (high - value) / (high - low), 2)

    lines = []
    for number, (label, curve) in enumerate(drawn.items()):
        positions = [(x(epoch), y(value)) for epoch, value in _thinned(curve)]
        path = "M" + "L".join(f"{a:g} {b:g}" for a, b in positions)
        dots = "".join(f"M{a:g} {b:g}h0" for a, b in positions) if len(positions) <= MAX_DOTTED else ""
        value = dict(curve).get(best[0], curve[-1][1]) if best else curve[-1][1]
        line = Line(label, f"{value:.3f}", path, dots, style=NEUTRAL[number % len(NEUTRAL)])
        if colours:
            own = colours[number]
            line = replace(line, style="", colour=css(own), rimmed=_is_faint(own))
        lines.append(line)
    return Chart(
        title,
        note,
        lines,
        [(x(t), f"{t:g}") for t in x_ticks],
        [(y(t), f"{t:.4g}") for t in y_ticks],
        x(best[0]) if best else None,
    )


def _is_faint(colour: Colour) -> bool:
    """Return whether a line has low contrast to the light or dark background, as defined by WCAG."""
    own = _luminance(colour)
    backgrounds = [_luminance(paper) for paper in BACKGROUNDS]
    return any((max(own, p) + 0.05) / (min(own, p) + 0.05) < MIN_CONTRAST for p in backgrounds)


def _luminance(colour: Colour) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _thinned(curve: Sequence[Point]) -> list[Point]:
    step = -(-len(curve) // MAX_POINTS)
    return [*curve[:-1:step], curve[-1]] if len(curve) > 1 else list(curve)


@dataclass(frozen=True)
class Bin:
    """A bar of the reliability diagram: left edge, width, accuracy and confidence in percent; share of the pixels."""

    left: float
    width: float
    accuracy: float
    confidence: float
    share: float


def reliability_bins(rows: Sequence[tuple[float, int, float | None, float | None]]) -> list[Bin]:
    """Return the non-empty bars of a reliability diagram.

    Args:
        rows: Upper edge, pixels, mean confidence and accuracy of each bin; None for empty bins.
    """
    width, total = 100 / max(len(rows), 1), max(sum(row[1] for row in rows), 1)
    return [
        Bin(
            round(100 * border - width, 3),
            round(width, 3),
            round(100 * accuracy, 2),
            round(100 * confidence, 2),
            pixels / total,
        )
        for border, pixels, confidence, accuracy in rows
        if confidence is not None and accuracy is not None
    ]
