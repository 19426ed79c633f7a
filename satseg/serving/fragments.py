"""Pieces of the page: tables, bars and texts; whatever the values hold, it is shown as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rasterio.warp import transform as warp

from satseg.checkpoint import model_path, read_header
from satseg.errors import RunError
from satseg.mapping import ClassArea
from satseg.runs import read_json, run_folder
from satseg.serving.jobs import Ticket
from satseg.serving.segmenting import Segmented, Served
from satseg.visualization.palette import Colour, css
from satseg.visualization.report import HEADLINE, MISSING

BEST_SPLITS = ("test", "val")  # the first that was scored is shown


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("satseg.serving"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"quantity": _quantity, "score": _score}
    return environment


def _quantity(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.4g}"


def _score(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


def areas(found: Sequence[ClassArea], palette: Sequence[Colour]) -> str:
    """Return a table of the classes' areas, with bars."""
    rows = [(area, css(colour)) for area, colour in zip(found, palette, strict=True)]
    return _render("areas.html", rows=rows, measured=all(area.area_m2 is not None for area in found))


def pixel(found: Segmented, served: Served, col: int, row: int, shares: Sequence[float] | None) -> str:
    """Return what the model makes of a pixel: its classes, the most probable first."""
    spec = served.spec
    rows = None
    if shares is not None:
        rows = sorted(zip(spec.class_names, shares, map(css, spec.palette), strict=True), key=lambda r: -r[1])
    return _render("pixel.html", col=col, row=row, rows=rows, place=_place(found, col, row))


def _place(found: Segmented, col: int, row: int) -> str:
    info = found.scene.info
    if info.transform is None or info.crs is None:
        return ""
    a, b, c, d, e, f = info.transform
    x, y = a * (col + 0.5) + b * (row + 0.5) + c, d * (col + 0.5) + e * (row + 0.5) + f
    (longitude,), (latitude,) = warp(info.crs, "EPSG:4326", [x], [y])
    return f"{latitude:.6f}°, {longitude:.6f}°"


def model(served: Served) -> str:
    """Return what is known of a model."""
    path = model_path(served.models.checkpoints[0])
    header = read_header(path) if path.suffix == ".safetensors" else {}
    summary, data = _record(served)
    split = next((split for split in BEST_SPLITS if split in summary.get("scores", {})), None)
    return _render(
        "model.html",
        name=served.name,
        architecture=str(served.network.config.get("_target_", "")).rpartition(".")[2]
        + f" on {str(served.network.config.get('encoder_name', '')).removeprefix('tu-')}",
        parameters=sum(p.numel() for p in served.network.parameters()),
        digest=served.models.digests[0][:12],
        spec=served.spec,
        data=data,
        classes=[
            (name, css(colour)) for name, colour in zip(served.spec.class_names, served.spec.palette, strict=True)
        ],
        split=split,
        scores=summary["scores"][split] if split else {},
        headline=HEADLINE,
        protocol=header.get("metric_protocol", {}),
    )


def _record(served: Served) -> tuple[Mapping[str, Any], str]:
    """Return the summary of the model's run, and what its data were; a file alone tells less."""
    try:
        folder = run_folder(served.models.checkpoints[0])
        summary, data = read_json(folder / "summary.json"), read_json(folder / "data.json")
        counts = {split: len(names) for split, names in data["splits"].items()}
        said = f"Trained on {counts['train']:,} images; {counts['val']:,} validated it, {counts['test']:,} tested it."
    except (RunError, OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}, ""
    return summary, said


def legend(palette: Sequence[Colour]) -> str:
    """Return the style that gives each class's switch its colour."""
    rules = [
        f"#classes label:nth-of-type({number}) span::before {{ background: {css(colour)}; }}"
        for number, colour in enumerate(palette, 1)
    ]
    return f"<style>{' '.join(rules)}</style>"


def scale() -> str:
    """Return what the colours of the confidence mean."""
    return (
        '<div class="scale"><span>0 %</span><span class="gradient"></span><span>100 %</span></div>'
        '<p class="hint">The probability of the class that won, as the network gives it; it was not calibrated.</p>'
    )


def progress(ticket: Ticket, what: str) -> str:
    """Return how far a job is."""
    if not ticket.started:
        return '<div class="status" role="status">Waiting for its turn …</div>'
    percent = f"{100 * ticket.share:.0f}"
    return (
        f'<div class="status" role="status">{escape(what)} … {percent} %'
        f'<span class="progress"><span style="width: {percent}%"></span></span></div>'
    )


def note(text: str) -> str:
    """Return a sentence for the user."""
    return f'<div class="status" role="status">{escape(text)}</div>'


def problem(text: str) -> str:
    """Return a sentence that says what is wrong."""
    return f'<div class="status problem" role="alert">{escape(text)}</div>'


def warnings(texts: Sequence[str]) -> str:
    """Return what to know before trusting a result."""
    return "".join(f'<div class="status warning" role="status">{escape(text)}</div>' for text in texts)


def frame(page: str, title: str) -> str:
    """Return a page as a frame of another, which can neither read nor change it."""
    return f'<iframe class="map" sandbox="allow-scripts" title="{escape(title)}" srcdoc="{escape(page)}"></iframe>'
