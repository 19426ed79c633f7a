"""A finished map over a base map: a page of its own, which needs nothing but the base map's tiles from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.vrt import WarpedVRT

from satseg.data.opening import open_raster, reason
from satseg.errors import DataError, RasterReadError
from satseg.serving.fragments import map_document

SIDE = 1024  # pixels, at most
WEB_MERCATOR = "EPSG:3857"
TILES = "OpenStreetMap.Mapnik"  # free to use with its attribution, which the map shows
BOKEH, STATIC = "bokeh/static", "satseg/static"  # where the server has Bokeh's files, and those of its own
PICTURED = "classes"  # the picture's name among the figure's parts
MARGIN = 0.15  # of the map's sides, that is seen around it
OPACITY = 0.65


def static_folders() -> dict[str, Path]:
    """Return the folders with what the page asks of the server, by where that has them."""
    from bokeh.util.paths import static_path

    return {BOKEH: Path(static_path()), STATIC: Path(__file__).with_name("static")}


def map_page(classes: Path, palette: Sequence[Sequence[int]], title: str) -> str:
    """Return an HTML page with a class map over a base map; where no tiles can be had, over a grid of coordinates.

    Args:
        classes: A map with coordinates.
        palette: A colour a class.
        title: Of the page.

    Raises:
        DataError: If the coordinates are none of a place on the Earth.
    """
    from bokeh.embed import json_item

    item = json_item(_figure(*_in_web_mercator(classes, palette)))
    return map_document(title=title, item=item, opacity=OPACITY, pictured=PICTURED, bokeh=BOKEH, static=STATIC)


def _in_web_mercator(classes: Path, palette: Sequence[Sequence[int]]) -> tuple[np.ndarray, tuple[float, ...]]:
    """Return colours uint32 (h, w), the lowest row first, and left, bottom, right and top."""
    try:
        with open_raster(classes) as source, WarpedVRT(source, crs=WEB_MERCATOR) as warped:
            factor = max(1.0, max(warped.width, warped.height) / SIDE)
            shape = max(1, round(warped.height / factor)), max(1, round(warped.width / factor))
            indices, bounds = warped.read(1, out_shape=shape), tuple(warped.bounds)
    except (CPLE_BaseError, RasterReadError) as error:
        raise DataError(f"{classes} cannot be laid over a map ({reason(error)}).") from error
    colours = np.zeros((256, 4), np.uint8)  # what is no class is transparent
    colours[: len(palette)] = [(*colour, 255) for colour in palette]
    return np.ascontiguousarray(colours[indices][::-1]).view(np.uint32)[..., 0], bounds


def _figure(image: np.ndarray, bounds: tuple[float, ...]) -> Any:
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
    made.add_tile(TILES)
    size = {"dw": right - left, "dh": top - bottom}
    made.image_rgba([image], x=left, y=bottom, global_alpha=OPACITY, name=PICTURED, **size)
    made.rect((left + right) / 2, (bottom + top) / 2, right - left, top - bottom, fill_color=None, line_color="#444444")
    return made
