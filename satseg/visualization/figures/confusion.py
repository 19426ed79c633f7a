"""Figure of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from satseg.visualization.figures.canvas import FAINT, INK, save_figure, shorten

MAX_WITH_COUNTS = 12  # classes up to which cells show share and count
MAX_WITH_SHARES = 26  # classes up to which cells show the share
NAME_LIMIT = 22
UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
DARK_CELL = 0.65  # share from which text is white
FAINT_CELL = 0.02  # share below which text is faint


def plot_confusion_matrix(matrix: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix, normalised by row, with counts if there are few classes.

    Args:
        matrix: Counts (K, K), rows truth, columns prediction.
        class_names: K names.
        path: PNG file to write.

    Raises:
        ValueError: If the matrix is not (K, K).
    """
    count = len(class_names)
    if matrix.shape != (count, count):
        raise ValueError(f"A confusion matrix of {count} classes is ({count}, {count}), but this is {matrix.shape}.")
    totals = matrix.sum(1)
    shares = matrix / np.maximum(totals, 1)[:, None]
    cell = _cell(count)
    names = [shorten(name, NAME_LIMIT) for name in class_names]
    longest = max(map(len, names))
    width = cell * count + 0.7 + 0.09 * longest + (0.8 if count > MAX_WITH_SHARES else 0)
    height = cell * count + 1.0 + (0 if _fits(names, cell) else 0.065 * longest)
    figure = Figure(figsize=(max(width, 3.8), height), dpi=110, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    _ticks(axes, names, totals, cell)
    if count <= MAX_WITH_SHARES:
        _numbers(axes, matrix, shares, with_counts=count <= MAX_WITH_COUNTS)
    else:
        figure.colorbar(image, ax=axes, shrink=0.4, fraction=0.03, pad=0.02, label="share of the true class")
    _empty_rows(axes, totals)
    title = "Share of each true class, by prediction"
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold", color=INK)
    save_figure(figure, path)


def _cell(count: int) -> float:
    """Return a cell's side in inches."""
    if count <= MAX_WITH_COUNTS:
        return 1.05 if count <= 4 else 0.82
    return 0.5 if count <= MAX_WITH_SHARES else max(0.1, 12 / count)


def short_count(count: float) -> str:
    """Return a short text for a count: 950, 12.3k, 4.1M."""
    for size, unit in UNITS:
        if count >= size * 0.99995:
            return f"{count / size:.3g}{unit}" if count < 999.5 * size else f"{count / size:.0f}{unit}"
    return f"{count:.0f}"


def _fits(names: Sequence[str], cell: float) -> bool:
    """Return whether names fit side by side below cells of a width in inches."""
    return max(map(len, names)) <= cell * 13


def _ticks(axes: Axes, names: Sequence[str], totals: np.ndarray, cell: float) -> None:
    size = min(9.5, max(4.0, cell * 40))
    rotation: dict[str, Any] = {} if _fits(names, cell) else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, parse_math=False, fontsize=size, color=INK, **rotation)
    counted = [f"{name}\n{short_count(total)} px" for name, total in zip(names, totals, strict=True)]
    labels = counted if len(names) <= MAX_WITH_COUNTS else names
    axes.set_yticks(range(len(names)), labels, parse_math=False, fontsize=size, color=INK)
    axes.set_xlabel("prediction", color=FAINT, fontsize=10)
    axes.set_ylabel("truth", color=FAINT, fontsize=10)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=min(2.0, cell * 4))
    axes.tick_params(which="both", length=0)


def _numbers(axes: Axes, matrix: np.ndarray, shares: np.ndarray, with_counts: bool) -> None:
    for row, column in np.ndindex(shares.shape):
        share, count = float(shares[row, column]), int(matrix[row, column])
        if not count:
            continue
        colour = "white" if share > DARK_CELL else FAINT if share < FAINT_CELL else INK
        weight = "bold" if row == column else "normal"
        text = _percent(share, digits=1 if with_counts else 0)
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour}
        axes.text(column, row - 0.12 * with_counts, text, fontsize=9, fontweight=weight, **style)
        if with_counts:
            axes.text(column, row + 0.2, short_count(count), fontsize=7.5, alpha=0.85, **style)


def _percent(share: float, digits: int) -> str:
    least = 10.0 ** -(digits + 2)
    return f"<{least:.{digits}%}" if share < least / 2 else f"{share:.{digits}%}"


def _empty_rows(axes: Axes, totals: np.ndarray) -> None:
    """Mark the rows of classes without true pixels."""
    for row in np.flatnonzero(totals == 0).tolist():
        axes.axhspan(row - 0.5, row + 0.5, color="#f0f1f3", linewidth=0)
        axes.text(len(totals) / 2 - 0.5, row, "not in the truth", ha="center", va="center", fontsize=8, color=FAINT)
