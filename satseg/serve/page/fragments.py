"""HTML fragments of the page; all values are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rasterio import CRS

from satseg.data.reprojection import transform_points
from satseg.errors import DataError
from satseg.mapping import ClassArea, format_area
from satseg.serve.describing import describe, trust_in
from satseg.serve.evidence import Explanation
from satseg.serve.page import views
from satseg.serve.segmenting import Segmented
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Ticket, approximate_duration
from satseg.spec import DatasetSpec
from satseg.visualization.palette import Colour, css
from satseg.visualization.report import HEADLINE, MISSING

FEW_PIXELS = 100  # evidence for fewer pixels means little


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("satseg.serve.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # Bokeh refers back to earlier keys
    environment.filters |= {"area": format_area, "score": _score}
    return environment


def _score(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


def areas(found: Sequence[ClassArea], palette: Sequence[Colour]) -> str:
    """Render a table of the classes' areas, with bars."""
    rows = [(area, css(colour)) for area, colour in zip(found, palette, strict=True)]
    return _render("areas.html", rows=rows, measured=all(area.area_m2 is not None for area in found))


def pixel(found: Segmented, served: ServedModel, col: int, row: int, shares: Sequence[float] | None) -> str:
    """Render the prediction for a pixel: class probabilities in descending order."""
    spec = served.spec
    rows = None
    if shares is not None:
        rows = sorted(zip(spec.class_names, shares, map(css, spec.palette), strict=True), key=lambda r: -r[1])
    return _render("pixel.html", col=col, row=row, rows=rows, place=_coordinates(found, col, row))


def _coordinates(found: Segmented, col: int, row: int) -> str:
    """Format latitude and longitude of a pixel; empty if unknown."""
    info = found.scene.info
    if info.transform is None or info.crs is None:
        return ""
    a, b, c, d, e, f = info.transform
    x, y = a * (col + 0.5) + b * (row + 0.5) + c, d * (col + 0.5) + e * (row + 0.5) + f
    try:
        (longitude,), (latitude,) = transform_points(info.crs, CRS.from_epsg(4326), [x], [y])
    except DataError:  # a local grid, or outside the domain of the projection
        return ""
    on_earth = abs(latitude) <= 90 and abs(longitude) <= 360  # some CRSs use 0 to 360
    return f"{latitude:.6f}°, {longitude:.6f}°" if on_earth else ""


def class_colours(spec: DatasetSpec) -> list[tuple[str, str]]:
    """Return the class names with their colours in CSS notation."""
    return list(zip(spec.class_names, map(css, spec.palette), strict=True))


def model(served: ServedModel) -> str:
    """Render the description of a model."""
    known = describe(served)
    return _render("model.html", model=known, classes=class_colours(known.spec), headline=HEADLINE)


def checkbox_style(palette: Sequence[Colour]) -> str:
    """Render the style sheet that colours the class checkboxes."""
    rules = [
        f"#classes label:nth-of-type({number}) {{ --class: {css(colour)}; }}"
        for number, colour in enumerate(palette, 1)
    ]
    return f"<style>{' '.join(rules)}</style>"


def unlike(findings: Sequence[str], *, refused: bool) -> str:
    """Render the differences between an image and the training data.

    Args:
        findings: One sentence each, which may end with `; set` and command-line options.
        refused: Whether the image was not segmented for that reason.
    """
    parts = [finding.removesuffix(".").partition("; set ") for finding in findings]
    return _render("unlike.html", findings=[(finding, remedy) for finding, _, remedy in parts], refused=refused)


def basis(areas: Sequence[ClassArea], target: int) -> str:
    """Render the area of a class in an image, on which an explanation would be based."""
    area = areas[target]
    is_largest = area.pixels == max(each.pixels for each in areas)
    return _render("basis.html", area=area, few=area.pixels < FEW_PIXELS, largest=is_largest)


def evidence(shown: Explanation, served: ServedModel) -> str:
    """Render the caption of an evidence map: its basis, trustworthiness and colour scale."""
    query, info = shown.query, shown.of
    is_subdataset = (shown.window.width, shown.window.height) != (info.width, info.height)
    return _render(
        "evidence.html",
        name=served.spec.class_names[query.target],
        shown=shown,
        clicked=query.region is not None,
        is_small=query.region is None and shown.pixels < FEW_PIXELS,
        part=f"{shown.window.width:,} × {shown.window.height:,}" if is_subdataset else "",
        trust=trust_in(served, query.method, shown.layer),
        colours=views.heat_colours(),
    )


def look(shown: views.DisplayOptions) -> str:
    """Render the display options of a map, for the script of the base map's page."""
    return f'<span data-opacity="{shown.opacity:g}" data-shown="{" ".join(map(str, shown.shown or []))}"></span>'


def scale() -> str:
    """Render the colour scale of the confidence."""
    return (
        '<div class="scale"><span>0 %</span><span class="gradient"></span><span>100 %</span></div>'
        '<p class="hint">The probability of the predicted class as given by the network, without calibration.</p>'
    )


def progress(ticket: Ticket, what: str) -> str:
    """Render a job's progress, or its place in the queue, with the estimated time left."""
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
    """Render a message for the user."""
    return f'<div class="status" role="status">{escape(text)}</div>'


def problem(text: str) -> str:
    """Render an error message."""
    return f'<div class="status problem" role="alert">{escape(text)}</div>'


def notes(differences: Sequence[str], findings: Sequence[str]) -> str:
    """Render the warnings about a result.

    Args:
        differences: Differences from the training data.
        findings: All findings, starting with the differences.
    """
    rest = findings[len(differences) :]
    warnings = [f'<div class="status warning" role="status">{escape(text)}</div>' for text in rest]
    return "".join([unlike(differences, refused=False) if differences else "", *warnings])


def login_page(action: str, *, is_wrong: bool = False) -> str:
    """Render the login page."""
    return _render("login.html", action=action, is_wrong=is_wrong)


def map_document(**values: Any) -> str:
    """Render an HTML page with a Bokeh map."""
    return _render("map.html", **values)


def frame(page: str, title: str) -> str:
    """Render a page in a frame, which is not sandboxed, as the tile server requires a referrer."""
    return f'<iframe class="map" title="{escape(title)}" srcdoc="{escape(page)}"></iframe>'
