"""What all figures share: saving, legends, and text that may hold anything."""

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
    """Write a figure as PNG at its own resolution; its folder is made where it is missing."""
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi="figure", format="png", facecolor="white")


def shorten(text: str, limit: int, keep_end: bool = False) -> str:
    """Return a name on one line of at most `limit` characters, every character drawable.

    Args:
        text: A class name or a path, with whatever it holds: line breaks, undecodable bytes of a file name.
        limit: Most characters.
        keep_end: Leave out the beginning instead of the end, as for paths.
    """
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    if len(line) <= limit:
        return line
    return ELLIPSIS + line[1 - limit :] if keep_end else line[: limit - 1] + ELLIPSIS


def add_legend(parent: Axes | Figure, handles: Sequence[Artist], names: Sequence[str], **options: Any) -> Legend:
    """Add a frameless legend whose names are shown as they are.

    Matplotlib itself leaves out names that begin with an underscore and sets those with dollar signs as formulas.
    """
    legend = parent.legend(handles=handles, labels=["name"] * len(names), frameon=False, labelcolor=INK, **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
    return legend
