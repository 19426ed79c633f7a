"""Footprints of images on the ground, and overlaps between splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import shapely
from rasterio.crs import CRS

from satseg.data.rasters.header import RasterInfo
from satseg.data.reprojection import transform_points
from satseg.errors import DataError
from satseg.validate.findings import Finding, Severity, count

SLACK = 0.5  # pixels; grids cut from one scene meet more closely
EXPECTED = (
    "Images of different splits are separated on the ground: neighbours look alike, and scores would be too high."
)
REMEDY = (
    "Split by location: dataset/split=blocks, with a buffer (between images of one CRS), or dataset/split=group with "
    "dataset.split.pattern, so that a scene stays in one split."
)


class Footprint(NamedTuple):
    """An image's outline on the ground, in the CRS that all footprints share, and its pixel size there."""

    name: str
    split: str
    file: str
    outline: shapely.Polygon
    pixel: float


def footprints(splits: Mapping[str, Sequence[tuple[str, str, RasterInfo]]]) -> list[Footprint]:
    """Return the footprints of all georeferenced images.

    Args:
        splits: Name, file and header of each image, by split.

    Returns:
        Footprints in the CRS of the images if they all have the same, else in longitude and latitude.
    """
    placed = [(s, *image) for s, images in splits.items() for image in images if image[2].transform]
    codes = list(dict.fromkeys(info.crs for *_, info in placed))
    systems = {code: CRS.from_wkt(code) if code else None for code in codes}
    shared = len({str(s) for s in systems.values()}) == 1
    found = []
    for split, name, file, info in placed:
        corners = _corners(info) if shared else _to_degrees(_corners(info), systems[info.crs])
        if corners is not None and np.isfinite(corners).all():
            outline = shapely.Polygon(corners)
            pixel = np.sqrt(outline.area / (info.width * info.height))
            found.append(Footprint(name, split, file, outline, float(pixel)))
    return found


def axis_labels(infos: Sequence[RasterInfo]) -> tuple[str, str]:
    """Return axis labels for the footprints of these images."""
    codes = {info.crs for info in infos if info.transform}
    system = CRS.from_wkt(next(iter(codes))) if len(codes) == 1 and None not in codes else None
    if len(codes) > 1 or (system and system.is_geographic):
        return "longitude, degrees", "latitude, degrees"
    if system is None:
        return "x", "y"
    code = system.to_epsg()
    name = f", EPSG:{code}" if code else ""
    return f"easting{name}, {system.linear_units}", f"northing{name}, {system.linear_units}"


def _corners(info: RasterInfo) -> np.ndarray:
    a, b, c, d, e, f = info.transform or (1, 0, 0, 0, 1, 0)
    columns, rows = np.array([0, info.width, info.width, 0]), np.array([0, 0, info.height, info.height])
    return np.stack([a * columns + b * rows + c, d * columns + e * rows + f], axis=1)


def _to_degrees(corners: np.ndarray, system: CRS | None) -> np.ndarray | None:
    if system is None:  # coordinates without a CRS cannot be compared with others
        return None
    try:
        return transform_points(system, CRS.from_epsg(4326), corners[:, 0], corners[:, 1]).T
    except DataError:  # a local CRS
        return None


def check_footprints(found: Sequence[Footprint]) -> list[Finding]:
    """Find images of different splits that overlap or touch on the ground."""
    if not found:
        return []
    outlines = np.array([f.outline for f in found])
    slack = SLACK * max(f.pixel for f in found)
    pairs = shapely.STRtree(outlines).query(outlines, predicate="dwithin", distance=slack)
    sides = np.array([f.split for f in found])
    one, other = pairs[:, (pairs[0] < pairs[1]) & (sides[pairs[0]] != sides[pairs[1]])]
    inner = shapely.buffer(outlines[one], [-found[i].pixel for i in one])
    is_overlap = shapely.intersects(inner, outlines[other])
    across = [(found[i], found[j]) for i, j in zip(one, other, strict=True)]
    overlapping = [pair for pair, deep in zip(across, is_overlap, strict=True) if deep]
    touching = [pair for pair, deep in zip(across, is_overlap, strict=True) if not deep]
    findings = []
    for check, severity, some, word in (
        ("overlap", Severity.ERROR, overlapping, "overlap"),
        ("touching", Severity.WARNING, touching, "touch each other"),
    ):
        if some:
            files = tuple(dict.fromkeys(f.file for pair in some for f in pair))
            first = " and ".join(f"{f.name} ({f.split})" for f in some[0])
            message = f"{count(len(files), 'image')} of different splits {word} on the ground, such as {first}"
            findings.append(Finding(check, severity, message, EXPECTED, REMEDY, files))
    return findings
