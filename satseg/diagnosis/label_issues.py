"""Labels that may be wrong, with their location on the ground and the data around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rasterio
from rasterio.crs import CRS
from torch import Tensor

from satseg.data import SegmentationDataModule
from satseg.data.rasters.header import RasterInfo, Window, window_transform
from satseg.data.reprojection import transform_points
from satseg.diagnosis.cases import CaseReader
from satseg.diagnosis.suspects import Suspect
from satseg.errors import DataError
from satseg.inference.windows import segment


@dataclass(frozen=True)
class Location:
    """Location of a box of pixels on the ground.

    Attributes:
        crs: Name of the coordinate reference system.
        bounds: Bounds of the box in it: left, bottom, right, top.
        lat_lon: Latitude and longitude of the box's centre in degrees; None if the CRS cannot be transformed to them.
    """

    crs: str
    bounds: tuple[float, float, float, float]
    lat_lon: tuple[float, float] | None


@dataclass(frozen=True)
class LabelIssue:
    """An image whose labels stand out, with the location and surroundings of the suspicious box.

    Attributes:
        found: The suspect image.
        location: Location of the box; None if the image is not georeferenced.
        pixel_m: Ground size of a pixel along a row and along a column, in metres; None if unknown.
        window: The part of the image that the arrays cover.
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).
        truth: Class indices (H, W).
        predicted: Class indices (H, W).
    """

    found: Suspect
    location: Location | None
    pixel_m: tuple[float, float] | None
    window: Window
    image: Tensor
    valid: Tensor
    truth: Tensor
    predicted: Tensor


def locate_issues(
    found: Sequence[Suspect], reader: CaseReader, datamodule: SegmentationDataModule
) -> tuple[LabelIssue, ...]:
    """Return each suspect with the surroundings of its box and the box's location on the ground."""
    label_issues = []
    for each in found:
        window, image, valid, truth = reader.around(each.image, each.box)
        predicted = segment(reader.network, image, valid)[0].argmax(0)
        sample = reader.samples[each.image]
        area = datamodule.reader.area(sample)
        box = Window(area.col + each.box.col, area.row + each.box.row, each.box.width, each.box.height)
        info = datamodule.reader.info(sample.image)
        label_issues.append(
            LabelIssue(each, location_of(info, box), info.pixel_m, window, image, valid, truth, predicted)
        )
    return tuple(label_issues)


def location_of(info: RasterInfo, box: Window) -> Location | None:
    """Return the location of a box of a raster; None if the raster is not georeferenced."""
    transform = window_transform(info, box)
    if transform is None or info.crs is None:
        return None
    affine, system = rasterio.Affine(*transform), CRS.from_wkt(info.crs)
    xs, ys = affine @ np.array([[0, box.width, box.width, 0], [0, 0, box.height, box.height]], float)
    try:
        longitude, latitude = transform_points(system, CRS.from_epsg(4326), [xs.mean()], [ys.mean()])[:, 0].tolist()
    except DataError:  # a custom local CRS
        longitude = latitude = math.nan
    return Location(
        ":".join(system.to_authority() or ()) or "custom CRS",
        (float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())),
        (latitude, longitude) if math.isfinite(latitude) and math.isfinite(longitude) else None,
    )
