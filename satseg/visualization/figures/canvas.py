"""Shared parts of figures: saving, legends, and safe text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from satseg.files import atomic_path

INK = "#1f2328"
FAINT = "#6e7781"
ELLIPSIS = "…"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG at its own resolution; create the folder if it is missing."""
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi="figure", format="png", facecolor="white")


def shorten(text: str, limit: int, keep_end: bool = False) -> str:
    """Return a text on one line, with at most `limit` characters, all of them drawable.

    Args:
        text: A class name or path; may contain line breaks, or undecodable bytes of a file name.
        limit: Maximum number of characters.
        keep_end: Cut off the beginning instead of the end, as for paths.
    """
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    if len(line) <= limit:
        return line
    return ELLIPSIS + line[1 - limit :] if keep_end else line[: limit - 1] + ELLIPSIS


def add_legend(parent: Axes | Figure, handles: Sequence[Artist], names: Sequence[str], **options: Any) -> Legend:
    """Add a frameless legend that shows names literally.

    By default, Matplotlib omits names that start with an underscore, and renders those with dollar signs as formulas.
    """
    legend = parent.legend(handles=handles, labels=["name"] * len(names), frameon=False, labelcolor=INK, **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
    return legend
