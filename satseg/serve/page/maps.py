"""A finished map over a base map, as a separate page that loads nothing but map tiles from other servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.vrt import WarpedVRT

from satseg.data.rasters.opening import RASTER_ERRORS, open_raster, reason
from satseg.errors import DataError, RasterReadError
from satseg.serve.headers import TILES
from satseg.serve.page.fragments import class_colours, map_document
from satseg.spec import DatasetSpec
from satseg.visualization.palette import Colour, css

SIDE = 1024  # maximum in pixels
WEB_MERCATOR = "EPSG:3857"
BASE_MAP = "OpenStreetMap.Mapnik"  # requires attribution, which the map shows
BOKEH, STATIC = "bokeh/static", "satseg/static"  # URL paths of Bokeh's files and of our own
PICTURED, COLOURS = "classes", "colours"  # names of the image and its colour mapper in the figure
MARGIN = 0.15  # shown around the map, as a share of its longer side
CLEAR = "#00000000"


def static_folders() -> dict[str, Path]:
    """Return the folders of static files by URL path."""
    from bokeh.util.paths import static_path

    return {BOKEH: Path(static_path()), STATIC: Path(__file__).with_name("static")}


def map_page(classes: Path, spec: DatasetSpec, title: str, look: str) -> str:
    """Render an HTML page with a class map over a base map, which reports if no tiles can be loaded.

    Args:
        classes: A map with coordinates.
        spec: Classes and their colours.
        title: Title of the page.
        look: Id of the element of the parent page with the display options, which the map follows.

    Raises:
        DataError: If the coordinates cannot be converted to Web Mercator.
    """
    from bokeh.embed import json_item

    return map_document(
        title=title,
        item=json_item(_figure(*_in_web_mercator(classes), spec.palette)),
        classes=class_colours(spec),
        names={"look": look, "pictured": PICTURED, "colours": COLOURS},
        tiles=TILES,
        folders={"bokeh": BOKEH, "static": STATIC},
    )


def _in_web_mercator(classes: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Return class indices uint8 (h, w), bottom row first, and left, bottom, right and top."""
    try:
        with open_raster(classes) as source, WarpedVRT(source, crs=WEB_MERCATOR) as warped:
            factor = max(1.0, max(warped.width, warped.height) / SIDE)
            shape = max(1, round(warped.height / factor)), max(1, round(warped.width / factor))
            indices, bounds = warped.read(1, out_shape=shape), tuple(warped.bounds)
    except (*RASTER_ERRORS, RasterReadError) as error:
        raise DataError(f"{classes} cannot be shown on a map ({reason(error)}).") from error
    return np.ascontiguousarray(indices[::-1]), bounds


def _figure(image: np.ndarray, bounds: tuple[float, ...], palette: Sequence[Colour]) -> Any:
    from bokeh.models import LinearColorMapper
    from bokeh.plotting import figure

    left, bottom, right, top = bounds
    margin = MARGIN * max(right - left, top - bottom)
    made = figure(
        x_range=(left - margin, right + margin),
        y_range=(bottom - margin, top + margin),
        x_axis_type="mercator",
        y_axis_type="mercator",
        match_aspect=True,
        sizing_mode="stretch_both",
        tools="pan,wheel_zoom,reset",
        active_scroll="wheel_zoom",
        toolbar_location="above",
        x_axis_label="longitude (degrees)",
        y_axis_label="latitude (degrees)",
    )
    made.toolbar.logo = None
    made.xaxis.ticker.desired_num_ticks = 4  # more would overlap on a phone
    made.add_tile(BASE_MAP)
    # One colour per class, in bins centred on integers; other values are transparent. The image stays transparent until
    # the display options are known.
    colours = LinearColorMapper(
        [css(colour) for colour in palette], low=-0.5, high=len(palette) - 0.5, high_color=CLEAR, name=COLOURS
    )
    size = {"dw": right - left, "dh": top - bottom}
    made.image([image], x=left, y=bottom, color_mapper=colours, global_alpha=0, name=PICTURED, **size)
    made.rect((left + right) / 2, (bottom + top) / 2, right - left, top - bottom, fill_color=None, line_color="#444444")
    return made
