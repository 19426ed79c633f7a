"""One page that shows a run whole: no other file, no request to anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from satseg.files import write_text
from satseg.visualization.page import read_picture, render_page

HEADLINE = {"miou": "mIoU", "micro_iou": "micro IoU", "f1": "F1", "accuracy": "accuracy"}
BY_CLASS = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall"}
SHORT = 12  # lines of text that are shown unfolded
MISSING = "–"


def write_report(
    path: Path,
    *,
    title: str,
    scores: Mapping[str, Mapping[str, float | None]],
    class_names: Sequence[str],
    figures: Sequence[tuple[str, str, Path]],
    facts: Mapping[str, str],
    warnings: Sequence[str] = (),
    protocol: Mapping[str, str] | None = None,
    palette: Sequence[tuple[int, int, int]] | None = None,
) -> None:
    """Write a self-contained HTML page: light and dark, for wide screens and phones.

    Args:
        path: The file to write.
        title: Name of the run.
        scores: By split, scores by name (`miou`, `iou/<class>` and so on); None and NaN are shown as a dash.
        class_names: Classes in order.
        figures: Title, caption and PNG file of each picture.
        facts: Sections of text: configuration, environment, data.
        warnings: What a reader must know before the numbers.
        protocol: What each score is, by its name.
        palette: A colour a class, shown beside its name.

    Raises:
        OSError: If a picture cannot be read.
        ResourceError: If the page cannot be written.
    """
    text = render_page(
        "report.html",
        {"score": _score, "exact": _exact, "percent": _percent, "unfolded": _unfolded},
        title=title,
        scores=scores,
        headline=HEADLINE,
        by_class=BY_CLASS,
        class_names=class_names,
        colours=list(palette) if palette is not None else None,
        pictures=[read_picture(*figure) for figure in figures],
        facts=facts,
        warnings=warnings,
        protocol=protocol or {},
    )
    write_text(path, text)


def _defined(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _score(value: float | None) -> str:
    return f"{value:.4f}" if _defined(value) else MISSING


def _exact(value: float | None) -> str:
    return repr(float(value)) if value is not None and _defined(value) else "occurs in neither truth nor prediction"


def _percent(value: float | None) -> str:
    return f"{100 * value:.1f}%" if value is not None and _defined(value) else "0%"


def _unfolded(text: str) -> bool:
    return text.count("\n") < SHORT
