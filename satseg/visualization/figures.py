"""Figures of a run, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from satseg.files import atomic_path
from satseg.visualization.display import ERROR_RED, IGNORED_GREY, colourise, show_errors

MAX_SIDE = 640  # pixels of an image in a grid
MAX_COUNTED_CLASSES = 12  # a confusion matrix with more has no room for numbers
Colour = tuple[int, int, int]
SampleRow = tuple[str, np.ndarray, np.ndarray, np.ndarray]


def _save(figure: Figure, path: Path, dpi: int = 110) -> None:
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")


def plot_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw losses, scores, IoU by class and learning rate over epochs.

    Args:
        rows: One mapping an epoch, as in metrics.csv; values may be None.
        path: PNG file to write.
    """
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    loss, scores, classes, rate = figure.subplots(2, 2).ravel()
    _curves(loss, rows, {"train/loss": "training", "val/loss": "validation"}, "Loss")
    _curves(scores, rows, {"val/miou": "mIoU", "val/f1": "F1", "val/accuracy": "accuracy"}, "Validation scores")
    keys = {k: k.removeprefix("val/iou/") for row in rows for k in row if k.startswith("val/iou/")}
    _curves(classes, rows, keys, "Validation IoU by class")
    _curves(rate, rows, {"lr": "learning rate"}, "Learning rate")
    for axes in (scores, classes):
        axes.set_ylim(0, 1)
    _save(figure, path)


def _curves(axes: Axes, rows: Sequence[Mapping[str, Any]], keys: Mapping[str, str], title: str) -> None:
    for key, label in keys.items():
        points = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) < 30 else None, markersize=3)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.has_data():
        axes.legend(frameon=False, fontsize=8, ncols=1 + len(keys) // 7)


def plot_confusion_matrix(matrix: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix, each row in shares of its true class.

    Args:
        matrix: Counts (K, K), rows truth.
        class_names: K names.
        path: PNG file to write.
    """
    count = len(class_names)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(14.0, 3.2 + 0.62 * count)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), class_names, rotation=40, ha="right")
    axes.set_yticks(range(count), class_names)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    if count <= MAX_COUNTED_CLASSES:
        for row, column in np.ndindex(shares.shape):
            colour = "white" if shares[row, column] > 0.55 else "#222222"
            axes.text(column, row, f"{shares[row, column]:.1%}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    _save(figure, path)


def plot_samples(rows: Sequence[SampleRow], class_names: Sequence[str], palette: Sequence[Colour], path: Path) -> None:
    """Draw image, truth, prediction and errors, a row for each image, with one legend.

    Args:
        rows: Name, colours (H, W, 3), true and predicted class indices (H, W).
        class_names: K names.
        palette: K colours.
        path: PNG file to write.
    """
    ratios = [min(rgb.shape[0] / rgb.shape[1], 1.5) for _, rgb, _, _ in rows]
    width = 3.1
    figure = Figure(
        figsize=(4 * width, sum(width * r + 0.28 for r in ratios) + 0.75),
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01),
    )
    grid = figure.subplots(len(rows), 4, squeeze=False, height_ratios=ratios)
    for line, (name, rgb, truth, predicted) in zip(grid, rows, strict=True):
        step = max(1, -(-max(truth.shape) // MAX_SIDE))
        rgb, truth, predicted = rgb[::step, ::step], truth[::step, ::step], predicted[::step, ::step]
        pictures = rgb, colourise(truth, palette), colourise(predicted, palette), None
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(show_errors(truth, predicted, len(class_names)) if picture is None else picture)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        line[0].set_title(name, fontsize=8, loc="left")
    for axes, title in zip(grid[0][1:], ("truth", "prediction", "errors"), strict=True):
        axes.set_title(title, fontsize=9, loc="left")
    _legend(figure, class_names, palette)
    _save(figure, path, dpi=100)


def _legend(figure: Figure, class_names: Sequence[str], palette: Sequence[Colour]) -> None:
    patches = [Patch(color=_unit(rgb), label=name) for name, rgb in zip(class_names, palette, strict=True)]
    patches.append(Patch(color=_unit((IGNORED_GREY,) * 3), label="ignored"))
    patches.append(Patch(color=_unit(ERROR_RED), label="error"))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 10), frameon=False, fontsize=9)


def _unit(colour: Colour) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255
