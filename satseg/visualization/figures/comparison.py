"""Figures comparing runs: scores with confidence intervals, and effects of choices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from satseg.visualization.figures.canvas import FAINT, INK, save_figure, shorten

LEADS, NOISE, BEHIND = "#1a7f37", "#8c959f", "#4c78a8"
NAME_LIMIT = 60
MAX_ROWS = 60  # more would be illegible; the table has all of them
ROW = 0.34  # inches
OFFSET = 0.26  # of a row, below the mean


class Ranked(NamedTuple):
    """Scores of a configuration: of each seed, mean with interval, and whether the lead of the best one is noise."""

    name: str
    scores: list[float]
    mean: float
    low: float
    high: float
    is_noise: bool


def plot_leaderboard(entries: Sequence[Ranked], path: Path) -> None:
    """Draw configurations, best first, with their seeds and intervals.

    Args:
        entries: Best first.
        path: PNG file to write.
    """
    shown = entries[:MAX_ROWS]
    axes, figure = _rows([entry.name for entry in shown])
    for row, entry in enumerate(shown):
        colour = LEADS if row == 0 else NOISE if entry.is_noise else BEHIND
        axes.plot([entry.low, entry.high], [row, row], color=colour, linewidth=2.4, solid_capstyle="round")
        axes.scatter(entry.scores, [row + OFFSET] * len(entry.scores), s=12, color=colour, alpha=0.7, linewidths=0)
        axes.scatter([entry.mean], [row], s=34, color=colour, edgecolors="white", linewidths=0.8, zorder=3)
    axes.axvline(shown[0].mean, color=FAINT, linewidth=0.7, linestyle=":")
    axes.set_xlabel("mIoU")
    save_figure(figure, path)


def plot_effects(effects: Sequence[tuple[str, str, float, tuple[float, float, float] | None]], path: Path) -> None:
    """Draw the effect of each value of each choice, relative to the best value.

    Args:
        effects: Choice, value, mean score, and the difference with its interval; None for the best value.
        path: PNG file to write.
    """
    shown = effects[:MAX_ROWS]
    axes, figure = _rows([f"{key}={value}" for key, value, _, _ in shown])
    for row, (_, _, _, difference) in enumerate(shown):
        mean, low, high = difference or (0.0, 0.0, 0.0)
        colour = LEADS if difference is None else NOISE if low <= 0 <= high else BEHIND
        axes.plot([low, high], [row, row], color=colour, linewidth=2.4, solid_capstyle="round")
        axes.scatter([mean], [row], s=34, color=colour, edgecolors="white", linewidths=0.8, zorder=3)
    for row in range(1, len(shown)):
        if shown[row][0] != shown[row - 1][0]:
            axes.axhline(row - 0.5, color=FAINT, linewidth=0.4)
    axes.axvline(0, color=FAINT, linewidth=0.7, linestyle=":")
    axes.set_xlabel("difference in mIoU to the best value, all else being equal")
    save_figure(figure, path)


def _rows(names: Sequence[str]) -> tuple[Axes, Figure]:
    figure = Figure(figsize=(8.6, 0.8 + ROW * len(names)), dpi=110, layout="constrained")
    axes = figure.subplots()
    labels = [shorten(name, NAME_LIMIT) for name in names]
    axes.set_yticks(range(len(labels)), labels, fontsize=8, color=INK, parse_math=False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="x", color="#eaeef2", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8, colors=INK)
    return axes, figure
