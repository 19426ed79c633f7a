"""Self-contained HTML report of a run."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from satseg.files import write_text
from satseg.visualization.charts import reliability_bins, training_charts
from satseg.visualization.examples import Example, embed_example
from satseg.visualization.figures.confusion import short_count
from satseg.visualization.figures.samples import legend_entries
from satseg.visualization.page import render_page
from satseg.visualization.palette import Colour, css

HEADLINE = {"miou": "mIoU", "micro_iou": "micro IoU", "f1": "F1", "accuracy": "accuracy"}
BY_CLASS = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall"}
UNFOLDED_LINES = 12  # longest text that is shown unfolded
MISSING = "–"
MAX_FILES = 100  # listed per notice
MAX_CELLS = 26  # classes up to which the confusion matrix is a table; beyond that, it is an image
MAX_CONFUSED = 10  # listed pairs of classes


@dataclass(frozen=True)
class Notice:
    """A notice at the top of a report.

    Attributes:
        grade: error, warning or note.
        message: The finding.
        repair: How to fix it.
        files: The affected files.
    """

    grade: str
    message: str
    repair: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitPage:
    """Content of a report for one split.

    Attributes:
        num_images: Number of scored images.
        matrix: Pixel counts (K, K), rows truth.
        scores: By name (`miou`, `iou/<class>` and so on); None and NaN are shown as a dash.
        bins: Upper edge, pixels, mean confidence and accuracy of each confidence bin.
        calibration_error: Mean gap between confidence and accuracy.
        worst: Images with the lowest mIoU, lowest first.
        samples: Other images, highest mIoU first.
    """

    num_images: int
    matrix: np.ndarray
    scores: Mapping[str, float | None]
    bins: Sequence[tuple[float, int, float | None, float | None]]
    calibration_error: float
    worst: Sequence[Example] = ()
    samples: Sequence[Example] = ()


def write_report(
    path: Path,
    *,
    title: str,
    class_names: Sequence[str],
    palette: Sequence[Colour],
    splits: Mapping[str, SplitPage],
    subtitle: str = "",
    facts: Mapping[str, str] | None = None,
    notices: Sequence[Notice] = (),
    rows: Sequence[Mapping[str, Any]] = (),
    monitor: str = "val/miou",
    protocol: Mapping[str, str] | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a self-contained HTML page of at most 3 MB, with light and dark themes, for wide screens and phones.

    Args:
        path: Output file.
        title: Title.
        class_names: K names.
        palette: K class colours, for tables, images and charts.
        splits: Splits by name, in display order.
        subtitle: Location of the run.
        facts: Facts about the run, by topic.
        notices: Notices, worst first.
        rows: Rows of metrics.csv.
        monitor: The score that selected the best epoch.
        protocol: Definition of each score, by name.
        texts: Long texts, which are folded.

    Raises:
        ResourceError: If the file cannot be written.
    """
    text = render_page(
        "report.html",
        FILTERS,
        title=title,
        subtitle=subtitle,
        facts=facts or {},
        notices=[_plain(notice) for notice in notices],
        splits=[_split(name, split, class_names, palette) for name, split in splits.items()],
        headline=HEADLINE,
        by_class=BY_CLASS,
        classes=list(zip(class_names, map(css, palette), strict=True)),
        charts=training_charts(rows, monitor, class_names, palette),
        texts=texts or {},
        protocol=protocol or {},
    )
    write_text(path, text)


def _plain(notice: Notice) -> dict[str, Any]:
    return {
        "grade": notice.grade,
        "message": notice.message,
        "repair": notice.repair,
        "expected": "",
        "files": notice.files[:MAX_FILES],
        "num_files": len(notice.files),
    }


def _split(name: str, split: SplitPage, class_names: Sequence[str], palette: Sequence[Colour]) -> dict[str, Any]:
    truth = split.matrix.sum(1)
    shares = split.matrix / np.maximum(truth, 1)[:, None]
    others = "Evenly spaced over the other images, highest mIoU first." if split.worst else "The only image."
    groups = [("Worst images", "Lowest mIoU first.", split.worst), ("Samples", others, split.samples)]
    return {
        "name": name,
        "num_images": split.num_images,
        "pixels": int(truth.sum()),
        "truth": truth.tolist(),
        "class_shares": (truth / max(truth.sum(), 1)).tolist(),
        "scores": split.scores,
        "cells": shares.tolist() if len(truth) <= MAX_CELLS else None,
        "counts": split.matrix.tolist() if len(truth) <= MAX_CELLS else None,
        "heat": None if len(truth) <= MAX_CELLS else _heat(shares),
        "confused": _confused(split.matrix, shares, class_names),
        "bins": reliability_bins(split.bins),
        "calibration": calibration_text(split.bins, split.calibration_error),
        "groups": [
            (
                title,
                lead,
                [(e.name, e.caption, embed_example(e, palette)) for e in examples],
                [(label, css(colour)) for label, colour in legend_entries(examples, class_names, palette)],
            )
            for title, lead, examples in groups
            if examples
        ],
    }


def _confused(matrix: np.ndarray, shares: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """Return the most confused pairs of classes: truth, prediction, pixels, share of truth."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_CONFUSED]
    pairs = [tuple(int(i) for i in np.unravel_index(index, wrong.shape)) for index in order]
    return [(class_names[a], class_names[b], int(wrong[a, b]), float(shares[a, b])) for a, b in pairs if wrong[a, b]]


def _heat(shares: np.ndarray) -> str:
    """Return an image with one pixel per cell, its opacity given by the share, as a base64 WebP file."""
    picture = np.zeros((*shares.shape, 4), np.uint8)
    picture[..., :3] = (9, 105, 218)
    picture[..., 3] = np.sqrt(shares) * 255  # makes small shares visible
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", lossless=True, exact=True)
    return base64.b64encode(file.getvalue()).decode()


def calibration_text(bins: Sequence[tuple[float, int, float | None, float | None]], error: float) -> str:
    """Return a text on the calibration of a model: its mean confidence against its accuracy."""
    known = [(n, c, a) for _, n, c, a in bins if n and c is not None and a is not None]
    total = sum(n for n, _, _ in known)
    if not total:
        return "No pixel was scored."
    confidence, accuracy = (sum(row[0] * row[i] for row in known) / total for i in (1, 2))
    if abs(confidence - accuracy) < 0.02:
        text = "The model is well calibrated on average"
    else:
        text = f"The model is {'over' if confidence > accuracy else 'under'}confident"
    text += f" (calibration error {error:.3f})"
    return f"{text}: its mean confidence is {100 * confidence:.1f} %, and its accuracy {100 * accuracy:.1f} %."


def _defined(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _score(value: float | None) -> str:
    return f"{value:.3f}" if _defined(value) else MISSING


def _exact(value: float | None) -> str:
    return repr(float(value)) if value is not None and _defined(value) else "occurs in neither truth nor prediction"


def _percent(value: float | None) -> str:
    """Return a share in percent as text."""
    if value is None or not _defined(value):
        return MISSING
    if 0 < value < 0.0005:
        return "<0.1 %"
    return f"{100 * value:.1f} %"


def _unfolded(text: str) -> bool:
    return text.count("\n") < UNFOLDED_LINES


def _number(value: int) -> str:
    return f"{value:,}" if value < 1e6 else f"{value / 1e6:,.3g} million"


FILTERS: dict[str, Callable[..., Any]] = {
    "score": _score,
    "exact": _exact,
    "percent": _percent,
    "unfolded": _unfolded,
    "short_count": short_count,
    "number": _number,
}
