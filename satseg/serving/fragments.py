"""Pieces of the page: tables, bars and texts; whatever the values hold, it is shown as text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rasterio import CRS

from satseg.data.projecting import transform_points
from satseg.errors import DataError
from satseg.mapping import ClassArea
from satseg.serving.describing import describe
from satseg.serving.jobs import Ticket
from satseg.serving.segmenting import Segmented
from satseg.serving.served import Served
from satseg.visualization.palette import Colour, css
from satseg.visualization.report import HEADLINE, MISSING


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("satseg.serving"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # Bokeh refers to what came before
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
    """Return latitude and longitude of a pixel; nothing where it has none."""
    info = found.scene.info
    if info.transform is None or info.crs is None:
        return ""
    a, b, c, d, e, f = info.transform
    x, y = a * (col + 0.5) + b * (row + 0.5) + c, d * (col + 0.5) + e * (row + 0.5) + f
    try:
        (longitude,), (latitude,) = transform_points(info.crs, CRS.from_epsg(4326), [x], [y])
    except DataError:  # a local grid, or a place outside of the projection
        return ""
    on_earth = abs(latitude) <= 90 and abs(longitude) <= 360  # some count from 0 to 360
    return f"{latitude:.6f}°, {longitude:.6f}°" if on_earth else ""


def model(served: Served) -> str:
    """Return what is known of a model."""
    known = describe(served)
    classes = [(name, css(colour)) for name, colour in zip(known.spec.class_names, known.spec.palette, strict=True)]
    return _render("model.html", model=known, classes=classes, headline=HEADLINE)


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


def login_page(action: str, *, is_wrong: bool = False) -> str:
    """Return a page with a form for user and password."""
    return _render("login.html", action=action, is_wrong=is_wrong)


def map_document(**values: Any) -> str:
    """Return a page with a map of Bokeh's, which scripts of the server show."""
    return _render("map.html", **values)


def frame(page: str, title: str) -> str:
    """Return a page of ours as a frame: one in a sandbox would not tell the base map's server who asks, as it wants."""
    return f'<iframe class="map" title="{escape(title)}" srcdoc="{escape(page)}"></iframe>'
