"""Explaining a class in a part of an upload, with the same results as `satseg.explain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from satseg.attribution import num_passes
from satseg.data.rasters.header import RasterInfo, Window, window_transform
from satseg.data.rasters.opening import open_raster
from satseg.explain.images import Picture
from satseg.explain.maps import explain_pictures
from satseg.explain.options import ExplainOptions
from satseg.serve.estimates import EVIDENCE, Estimate
from satseg.serve.segmenting import Segmented
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Ticket

SIDE = 1024  # maximum in pixels: of a large image, a part is explained
CELL = SIDE // 2


@dataclass(frozen=True)
class ExplainRequest:
    """A class to explain, with the options.

    Attributes:
        target: Index of the class.
        region: In pixels of the image: a pixel (col, row), a box (col, row, width, height), or None for all pixels
            predicted as the class.
        method: One of `satseg.attribution.METHODS`.
        layer: As for `satseg.attribution.layers.find_layer`.
    """

    target: int
    region: tuple[int, ...] | None
    method: str
    layer: str


@dataclass(frozen=True)
class Explanation:
    """The evidence for a class.

    Attributes:
        query: The request.
        of: Header of the image.
        window: The part of the image that was explained.
        overlay: Evidence over the image, a PNG.
        map: Evidence, a GeoTIFF.
        pixels: Number of pixels in the region.
        layer: Name of the layer, or `input`.
        highest: Maximum of the map.
    """

    query: ExplainRequest
    of: RasterInfo
    window: Window
    overlay: Path
    map: Path
    pixels: int
    layer: str
    highest: float

    @property
    def has_evidence(self) -> bool:
        """True if there is any evidence for the class."""
        return self.highest > 0

    @property
    def is_relative(self) -> bool:
        """True if values are only comparable within the map, and not in units of the logit."""
        return self.query.method == "gradcam"


def explain_upload(
    served: ServedModel, found: Segmented, query: ExplainRequest, folder: Path, ticket: Ticket
) -> Explanation:
    """Explain a class in a segmented upload.

    Raises:
        EmptyRegionError: If no pixel is predicted as the class.
        LayerError: If the layer's activation is not a feature map.
    """
    ticket.total = 1
    window = part_of(found, query)
    region: str | list[int] = "predicted"
    if query.region is not None:
        region = _within(query.region, window)
    options = ExplainOptions((query.target,), None, region, query.method, (query.layer,))
    (row,) = explain_pictures(served.private_network(), [_picture(found, window)], options, folder)
    ticket.tick()
    with open_raster(folder / row["map"]) as source:
        highest = float(np.nanmax(source.read(1)))
    return Explanation(
        query=query,
        of=found.scene.info,
        window=window,
        overlay=folder / row["overlay"],
        map=folder / row["map"],
        pixels=row["region_pixels"],
        layer=row["layer"],
        highest=highest,
    )


def estimate_evidence(served: ServedModel, num_pixels: int, method: str) -> Estimate:
    """Estimate the cost of explaining a class in a segmented image of `num_pixels`."""
    part = min(num_pixels, SIDE * SIDE)
    return served.costs.estimate(EVIDENCE, part * num_passes(method))


def part_of(found: Segmented, query: ExplainRequest) -> Window:
    """Return the window to explain: around the region, or else where the class is densest."""
    height, width = found.scene.info.height, found.scene.info.width
    if query.region is not None:
        col, row, wide, high = (*query.region, 1, 1)[:4]
        centre = col + wide // 2, row + high // 2
    else:
        centre = _densest(found.classes, query.target)
    cols, rows = (_around(at, length) for at, length in zip(centre, (width, height), strict=True))
    return Window(cols[0], rows[0], cols[1], rows[1])


def _around(centre: int, length: int) -> tuple[int, int]:
    """Return start and length of a window of at most SIDE pixels along an axis."""
    side = min(SIDE, length)
    return min(max(centre - side // 2, 0), length - side), side


def _densest(classes: Path, target: int) -> tuple[int, int]:
    """Return the centre (col, row) of the square with most pixels of the class, in steps of half a square."""
    counts = np.pad(_cell_counts(classes, target), ((0, 1), (0, 1)))
    squares = counts[:-1, :-1] + counts[1:, :-1] + counts[:-1, 1:] + counts[1:, 1:]
    row, col = divmod(int(squares.argmax()), squares.shape[1])
    return (col + 1) * CELL, (row + 1) * CELL


def _cell_counts(classes: Path, target: int) -> np.ndarray:
    """Count the pixels of the class in each cell, at full resolution: overviews lose thin structures."""
    with open_raster(classes) as source:
        counts = np.zeros((-(-source.height // CELL), -(-source.width // CELL)), np.int64)
        for row, col in np.ndindex(*counts.shape):
            window = (row * CELL, (row + 1) * CELL), (col * CELL, (col + 1) * CELL)
            counts[row, col] = np.count_nonzero(source.read(1, window=window) == target)
    return counts


def _within(region: tuple[int, ...], window: Window) -> list[int]:
    """Return a region in pixels of a window; a box is clipped to the window."""
    col, row = region[0] - window.col, region[1] - window.row
    if len(region) == 2:
        return [col, row]
    left, top = max(col, 0), max(row, 0)
    return [left, top, min(col + region[2], window.width) - left, min(row + region[3], window.height) - top]


def _picture(found: Segmented, window: Window) -> Picture:
    info = found.scene.info
    with found.scene.open() as reader:
        image, valid = reader.read(window)
    name = f"{found.upload.stem}_{window.col}_{window.row}"
    return Picture(name, image[None], valid[None], None, info.crs, window_transform(info, window), window)
