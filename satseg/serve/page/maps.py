"""A finished map over a base map: a page of its own, which needs nothing but the base map's tiles from outside."""

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

SIDE = 1024  # pixels, at most
WEB_MERCATOR = "EPSG:3857"
BASE_MAP = "OpenStreetMap.Mapnik"  # free to use with its attribution, which the map shows
BOKEH, STATIC = "bokeh/static", "satseg/static"  # where the server has Bokeh's files, and those of its own
PICTURED, COLOURS = "classes", "colours"  # names of the picture and its colours among the figure's parts
MARGIN = 0.15  # of the map's sides, that is seen around it
CLEAR = "#00000000"


def static_folders() -> dict[str, Path]:
    """Return the folders with what the page asks of the server, by where that has them."""
    from bokeh.util.paths import static_path

    return {BOKEH: Path(static_path()), STATIC: Path(__file__).with_name("static")}


def map_page(classes: Path, spec: DatasetSpec, title: str, look: str) -> str:
    """Return an HTML page with a class map over a base map; where no tiles can be had, it says so.

    Args:
        classes: A map with coordinates.
        spec: Its classes and their colours.
        title: Of the page.
        look: Id of the part of the page around it that says what is shown, and how opaque; the map follows it.

    Raises:
        DataError: If the coordinates are none of a place on the Earth.
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
    """Return class indices uint8 (h, w), the lowest row first, and left, bottom, right and top."""
    try:
        with open_raster(classes) as source, WarpedVRT(source, crs=WEB_MERCATOR) as warped:
            factor = max(1.0, max(warped.width, warped.height) / SIDE)
            shape = max(1, round(warped.height / factor)), max(1, round(warped.width / factor))
            indices, bounds = warped.read(1, out_shape=shape), tuple(warped.bounds)
    except (*RASTER_ERRORS, RasterReadError) as error:
        raise DataError(f"{classes} cannot be laid over a map ({reason(error)}).") from error
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
    made.xaxis.ticker.desired_num_ticks = 4  # on a phone more would run into one another
    made.add_tile(BASE_MAP)
    # A colour a class, in bins around whole numbers; what is no class is not painted. All is clear until it is known
    # what the visitor wants to see.
    colours = LinearColorMapper(
        [css(colour) for colour in palette], low=-0.5, high=len(palette) - 0.5, high_color=CLEAR, name=COLOURS
    )
    size = {"dw": right - left, "dh": top - bottom}
    made.image([image], x=left, y=bottom, color_mapper=colours, global_alpha=0, name=PICTURED, **size)
    made.rect((left + right) / 2, (bottom + top) / 2, right - left, top - bottom, fill_color=None, line_color="#444444")
    return made
