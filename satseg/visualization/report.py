"""One page that shows a run whole: no other file, no request to anywhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from satseg.files import write_text

HEADLINE = ("miou", "micro_iou", "f1", "accuracy")
BY_CLASS = ("iou", "f1", "precision", "recall")
Picture = tuple[str, str, Path]


def write_report(
    path: Path,
    *,
    title: str,
    scores: Mapping[str, Mapping[str, float]],
    class_names: Sequence[str],
    figures: Sequence[Picture],
    facts: Mapping[str, str],
) -> None:
    """Write a self-contained HTML page.

    Args:
        path: The file to write.
        title: Name of the run.
        scores: By split, scores by name (`miou`, `iou/<class>` and so on).
        class_names: Classes in order.
        figures: Title, caption and PNG file of each picture.
        facts: Sections of text: configuration, environment, data.
    """
    environment = Environment(
        loader=PackageLoader("satseg.visualization"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["score"] = lambda value: "–" if math.isnan(value) else f"{value:.4f}"
    pictures = [(name, caption, base64.b64encode(file.read_bytes()).decode()) for name, caption, file in figures]
    page = environment.get_template("report.html").render(
        title=title,
        scores=scores,
        headline=HEADLINE,
        by_class=BY_CLASS,
        class_names=class_names,
        pictures=pictures,
        facts=facts,
    )
    write_text(path, page)
