"""Figure of example images with truth and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from satseg.visualization.examples import MAX_WIDTH, Example, fit, nearest, resize
from satseg.visualization.figures.canvas import FAINT, INK, add_legend, save_figure, shorten
from satseg.visualization.palette import ERROR_RED, IGNORED_GREY, Colour, colourise, css

DPI = 100
CELL = MAX_WIDTH  # lengths are in pixels
GAP = 10
MARGIN = 16
HEADING = 30
CAPTION = 25
LEGEND_LINE = 24
FONT_SIZE = 11  # points
EM = FONT_SIZE * DPI / 72
CHARACTER = 0.6 * EM
MAX_NAMED = 40  # classes in the legend; beyond that, those in the images only
COLUMNS = ("image", "truth", "prediction", "errors")


def plot_samples(
    examples: Sequence[Example], class_names: Sequence[str], palette: Sequence[Colour], path: Path
) -> None:
    """Draw image, truth, prediction and errors in one row per image, with a legend.

    Args:
        examples: The images; sizes may differ.
        class_names: K names.
        palette: K colours.
        path: PNG file to write.
    """
    sizes = [fit(example.truth.shape, enlarge=True) for example in examples]
    width = 2 * MARGIN + 4 * CELL + 3 * GAP
    entries = legend_entries(examples, class_names, palette)
    per_line = _per_line([name for name, _ in entries], width - 2 * MARGIN)
    lines = -(-len(entries) // per_line)
    height = 2 * MARGIN + HEADING + sum(h + CAPTION + GAP for h, _ in sizes) + lines * LEGEND_LINE
    page = _Page(width, height)
    for column, heading in enumerate(COLUMNS):
        page.write(heading, column, MARGIN + HEADING - 10, fontsize=13, fontweight="bold", color=INK)
    top = MARGIN + HEADING
    for example, size in zip(examples, sizes, strict=True):
        _draw_row(page, top, example, size, palette)
        top += CAPTION + size[0] + GAP
    _legend(page.figure, entries, per_line)
    save_figure(page.figure, path)


class _Page:
    """A figure with positions in pixels from the top left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)

    def write(self, text: str, column: int, baseline: int, **style: Any) -> None:
        left = MARGIN + column * (CELL + GAP)
        self.figure.text(left / self.width, 1 - baseline / self.height, text, parse_math=False, **style)

    def show(self, picture: np.ndarray, column: int, top: int) -> None:
        height, width = picture.shape[:2]
        left = MARGIN + column * (CELL + GAP)
        box = left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height
        axes = self.figure.add_axes(box)
        axes.imshow(picture, aspect="auto", interpolation="nearest")
        axes.set_axis_off()


def _draw_row(page: _Page, top: int, example: Example, size: tuple[int, int], palette: Sequence[Colour]) -> None:
    limit = int(CELL / CHARACTER)
    name = shorten(example.name, limit, keep_end=True)
    page.write(name, 0, top + CAPTION - 7, fontsize=FONT_SIZE, color=FAINT)
    page.write(example.caption, 3, top + CAPTION - 7, fontsize=FONT_SIZE, color=FAINT)
    masks = [colourise(nearest(mask, size), palette) for mask in (example.truth, example.predicted)]
    for column, picture in enumerate((resize(example.rgb, size), *masks, resize(example.errors, size))):
        page.show(picture, column, top + CAPTION)


def legend_entries(
    examples: Sequence[Example], class_names: Sequence[str], palette: Sequence[Colour]
) -> list[tuple[str, Colour]]:
    """Return names and colours for the legend; with many classes, only those that occur in the images."""
    shown = list(range(len(class_names)))
    if len(class_names) > MAX_NAMED:
        present = {int(i) for e in examples for i in np.union1d(e.truth, e.predicted)}
        shown = [i for i in shown if i in present]
    entries = [(shorten(class_names[i], 32), palette[i]) for i in shown]
    return [*entries, ("ignored", IGNORED_GREY), ("error", ERROR_RED)]


def _per_line(names: Sequence[str], width: int) -> int:
    return max(1, min(len(names), int((width + 2 * EM) / (4.3 * EM + CHARACTER * max(map(len, names))))))


def _legend(figure: Figure, entries: Sequence[tuple[str, Colour]], per_line: int) -> None:
    width, height = figure.get_size_inches() * DPI
    patches = [Patch(facecolor=css(colour), edgecolor="#8c959f", linewidth=0.6) for _, colour in entries]
    place = {"loc": "lower left", "bbox_to_anchor": (MARGIN / width, (MARGIN - 8) / height), "borderaxespad": 0}
    names = [name for name, _ in entries]
    add_legend(
        figure,
        patches,
        names,
        ncols=per_line,
        fontsize=FONT_SIZE,
        borderpad=0,
        labelspacing=0.5,
        handlelength=1.4,
        **place,
    )
