"""Charts of a page: drawn as SVG that takes the page's colours and width, with labels that keep their size."""

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

MAX_LINES = 32  # classes in a chart; of more, those that end lowest
MAX_POINTS = 240  # of a line; of more, evenly some
BACKGROUNDS: tuple[Colour, ...] = ((255, 255, 255), (21, 27, 35))  # of the light page and of the dark one
MIN_CONTRAST = 2.2  # of a line to the paper; of less, it has a grey rim
MAX_DOTTED = 40  # points of a line that are marked one by one
NEUTRAL = ("main", "second", "third", "fourth")  # lines of no class, as the page's style draws them


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: Its name.
        value: The number that the legend gives, as text.
        path: SVG path in percent of the chart, from its top left corner.
        dots: SVG path of its points, "" where they are too many.
        colour: `#rrggbb` of a class; "" for a line of no class.
        style: Which of the page's neutral styles it has, where it is of no class.
        rimmed: Whether its colour is hard to see on light or dark paper by itself.
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
        title: Above it.
        note: Below it.
        lines: What is drawn.
        x_ticks: Place from the left in percent, and label.
        y_ticks: Place from the top in percent, and label.
        marked: Place of the best epoch from the left in percent, where there is one.
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
    """Return the charts of a run by name, those without values left out: loss, scores, classes, lr, speed.

    Args:
        rows: As of metrics.csv, one an epoch.
        monitor: The score whose highest value marks the best epoch.
        class_names: K names.
        palette: K colours.
    """
    best = best_point(points(rows, monitor))
    labels = class_labels(rows)
    colours = dict(zip(labels, class_colours(labels, dict(zip(class_names, palette, strict=True))), strict=True))
    ious = {key: curve for key in labels if (curve := points(rows, key))}
    lowest = sorted(ious, key=lambda key: ious[key][-1][1])[:MAX_LINES]
    few = f"The {MAX_LINES} classes that end lowest, of {len(ious)}." if len(ious) > MAX_LINES else ""
    own = {key.removeprefix(CLASS_PREFIX): ious[key] for key in ious if key in lowest}
    of_classes = [colours[CLASS_PREFIX + name] for name in own]
    speed = next((curve for key in SPEEDS if (curve := points(rows, key))), [])
    made = {
        "loss": _chart("Loss", {n: points(rows, k) for k, n in LOSSES.items()}, best),
        "scores": _chart("Validation scores", {n: points(rows, k) for k, n in SCORES.items()}, best, top=1.0),
        "classes": _chart("Validation IoU by class", own, best, top=1.0, colours=of_classes, note=few),
        "lr": _chart("Learning rate", {"": points(rows, "lr")}, None),
        "speed": _chart("Training images a second", {"": speed}, None),
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
        places = [(x(epoch), y(value)) for epoch, value in _thinned(curve)]
        path = "M" + "L".join(f"{a:g} {b:g}" for a, b in places)
        dots = "".join(f"M{a:g} {b:g}h0" for a, b in places) if len(places) <= MAX_DOTTED else ""
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
    """Tell whether a line hardly stands out from light or from dark paper, by the contrast that WCAG defines."""
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
    """A bar of the chart of calibration, in percent of the chart: its left edge, width and height, and confidence."""

    left: float
    width: float
    accuracy: float
    confidence: float
    share: float


def reliability_bins(rows: Sequence[tuple[float, int, float | None, float | None]]) -> list[Bin]:
    """Return the bars of a chart of accuracy by confidence, empty ones left out.

    Args:
        rows: Upper border, pixels, mean confidence and accuracy of each bin; None where it is empty.
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
