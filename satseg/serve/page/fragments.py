"""Pieces of the page: tables, bars and texts; whatever the values hold, it is shown as text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rasterio import CRS

from satseg.data.reprojection import transform_points
from satseg.errors import DataError
from satseg.mapping import ClassArea, area_text
from satseg.serve.describing import describe, trust_in
from satseg.serve.evidence import Explanation
from satseg.serve.page import views
from satseg.serve.segmenting import Segmented
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Ticket, approximate_duration
from satseg.spec import DatasetSpec
from satseg.visualization.palette import Colour, css
from satseg.visualization.report import HEADLINE, MISSING

FEW_PIXELS = 100  # evidence for fewer says next to nothing


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("satseg.serve.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # Bokeh refers to what came before
    environment.filters |= {"area": area_text, "score": _score}
    return environment


def _score(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


def areas(found: Sequence[ClassArea], palette: Sequence[Colour]) -> str:
    """Return a table of the classes' areas, with bars."""
    rows = [(area, css(colour)) for area, colour in zip(found, palette, strict=True)]
    return _render("areas.html", rows=rows, measured=all(area.area_m2 is not None for area in found))


def pixel(found: Segmented, served: ServedModel, col: int, row: int, shares: Sequence[float] | None) -> str:
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


def class_colours(spec: DatasetSpec) -> list[tuple[str, str]]:
    """Return the classes' names, each with its colour as CSS writes it."""
    return list(zip(spec.class_names, map(css, spec.palette), strict=True))


def model(served: ServedModel) -> str:
    """Return what is known of a model."""
    known = describe(served)
    return _render("model.html", model=known, classes=class_colours(known.spec), headline=HEADLINE)


def switches(palette: Sequence[Colour]) -> str:
    """Return the style that gives each class's switch its colour."""
    rules = [
        f"#classes label:nth-of-type({number}) {{ --class: {css(colour)}; }}"
        for number, colour in enumerate(palette, 1)
    ]
    return f"<style>{' '.join(rules)}</style>"


def unlike(findings: Sequence[str], *, refused: bool) -> str:
    """Return what speaks against an image, which was not segmented, or in spite of it.

    Args:
        findings: A sentence each; it may end with `; set` and options of the command line.
        refused: Whether it was not segmented.
    """
    parts = [finding.removesuffix(".").partition("; set ") for finding in findings]
    return _render("unlike.html", findings=[(said, remedy) for said, _, remedy in parts], refused=refused)


def basis(areas: Sequence[ClassArea], target: int) -> str:
    """Return how much of an image a class is, which a map of evidence for it would rest on."""
    area = areas[target]
    is_largest = area.pixels == max(each.pixels for each in areas)
    return _render("basis.html", area=area, few=area.pixels < FEW_PIXELS, largest=is_largest)


def evidence(shown: Explanation, served: ServedModel) -> str:
    """Return what a map of evidence rests on, whether it can be trusted, and what its colours mean."""
    asked, info = shown.asked, shown.of
    is_subdataset = (shown.window.width, shown.window.height) != (info.width, info.height)
    return _render(
        "evidence.html",
        name=served.spec.class_names[asked.target],
        shown=shown,
        clicked=asked.region is not None,
        is_small=asked.region is None and shown.pixels < FEW_PIXELS,
        part=f"{shown.window.width:,} × {shown.window.height:,}" if is_subdataset else "",
        trust=trust_in(served, asked.method, shown.layer),
        colours=views.heat_colours(),
    )


def look(shown: views.Look) -> str:
    """Return how the visitor wants to see a map, for the script of the base map's page."""
    return f'<span data-opacity="{shown.opacity:g}" data-shown="{" ".join(map(str, shown.shown or []))}"></span>'


def scale() -> str:
    """Return what the colours of the confidence mean."""
    return (
        '<div class="scale"><span>0 %</span><span class="gradient"></span><span>100 %</span></div>'
        '<p class="hint">The probability of the class that won, as the network gives it; it was not calibrated.</p>'
    )


def progress(ticket: Ticket, what: str) -> str:
    """Return how far a job is, or its place among those that wait, and how long it may still take."""
    queue_position = ticket.queue_position
    left = f", done in {approximate_duration(queue_position.seconds_left)}" if queue_position is not None else ""
    if queue_position is not None and ticket.started is None:
        return note(f"Waiting for its turn: {_ordinal(queue_position.place)} of {queue_position.total}{left} …")
    percent = f"{100 * ticket.share:.0f}"
    return (
        f'<div class="status" role="status">{escape(what)} … {percent} %{left}'
        f'<span class="progress"><span style="width: {percent}%"></span></span></div>'
    )


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def note(text: str) -> str:
    """Return a sentence for the user."""
    return f'<div class="status" role="status">{escape(text)}</div>'


def problem(text: str) -> str:
    """Return a sentence that says what is wrong."""
    return f'<div class="status problem" role="alert">{escape(text)}</div>'


def notes(against: Sequence[str], told: Sequence[str]) -> str:
    """Return what to know before trusting a result.

    Args:
        against: What is unlike the training.
        told: All that was found; the above comes first in it.
    """
    rest = told[len(against) :]
    warnings = [f'<div class="status warning" role="status">{escape(text)}</div>' for text in rest]
    return "".join([unlike(against, refused=False) if against else "", *warnings])


def login_page(action: str, *, is_wrong: bool = False) -> str:
    """Return a page with a form for user and password."""
    return _render("login.html", action=action, is_wrong=is_wrong)


def map_document(**values: Any) -> str:
    """Return a page with a map of Bokeh's, which scripts of the server show."""
    return _render("map.html", **values)


def frame(page: str, title: str) -> str:
    """Return a page of ours as a frame: one in a sandbox would not tell the base map's server who asks, as it wants."""
    return f'<iframe class="map" title="{escape(title)}" srcdoc="{escape(page)}"></iframe>'
