"""Labels that deserve another look, with their place on the ground and a picture's worth of data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rasterio
from rasterio.crs import CRS
from torch import Tensor

from satseg.data import SegmentationDataModule
from satseg.data.projecting import transform_points
from satseg.data.rasters.raster import RasterInfo, Window, window_transform
from satseg.diagnosis.cases import CaseReader
from satseg.diagnosis.suspects import Suspect
from satseg.errors import DataError
from satseg.inference.windows import segment


@dataclass(frozen=True)
class Place:
    """Where a box of pixels lies on the ground.

    Attributes:
        crs: Name of the coordinate reference system.
        bounds: The box in it: left, bottom, right, top.
        lat_lon: Latitude and longitude of the box's centre in degrees; None where nothing leads there from the system.
    """

    crs: str
    bounds: tuple[float, float, float, float]
    lat_lon: tuple[float, float] | None


@dataclass(frozen=True)
class Doubt:
    """An image whose labels stand out, with its place and the surroundings of the box.

    Attributes:
        found: What stands out.
        place: Of the box; None where the image is not georeferenced.
        pixel_m: Size of a pixel on the ground along a row and along a column, in metres; None where it is not known.
        window: The part of the image that the arrays show.
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).
        truth: Class indices (H, W).
        predicted: Class indices (H, W).
    """

    found: Suspect
    place: Place | None
    pixel_m: tuple[float, float] | None
    window: Window
    image: Tensor
    valid: Tensor
    truth: Tensor
    predicted: Tensor


def look_at(found: Sequence[Suspect], reader: CaseReader, datamodule: SegmentationDataModule) -> tuple[Doubt, ...]:
    """Read the surroundings of each box, and find where on the ground it lies."""
    doubts = []
    for each in found:
        window, image, valid, truth = reader.around(each.image, each.box)
        predicted = segment(reader.network, image, valid)[0].argmax(0)
        sample = reader.samples[each.image]
        area = datamodule.reader.area(sample)
        box = Window(area.col + each.box.col, area.row + each.box.row, each.box.width, each.box.height)
        info = datamodule.reader.info(sample.image)
        doubts.append(Doubt(each, place_of(info, box), info.pixel_m, window, image, valid, truth, predicted))
    return tuple(doubts)


def place_of(info: RasterInfo, box: Window) -> Place | None:
    """Return where a box of a raster lies; None where the raster is not georeferenced."""
    transform = window_transform(info, box)
    if transform is None or info.crs is None:
        return None
    affine, system = rasterio.Affine(*transform), CRS.from_wkt(info.crs)
    xs, ys = affine @ np.array([[0, box.width, box.width, 0], [0, 0, box.height, box.height]], float)
    try:
        longitude, latitude = transform_points(system, CRS.from_epsg(4326), [xs.mean()], [ys.mean()])[:, 0].tolist()
    except DataError:  # a system of somebody's own
        longitude = latitude = math.nan
    return Place(
        ":".join(system.to_authority() or ()) or "a system of its own",
        (float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())),
        (latitude, longitude) if math.isfinite(latitude) and math.isfinite(longitude) else None,
    )
