"""Reading polygons and their attributes from vector files, for one area at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import pyogrio.raw
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio import CRS
from rasterio.errors import CRSError

from satseg.data.reprojection import Bounds, transform_bounds, transform_points
from satseg.errors import ConfigError, DataError, RasterReadError

PARSED_WHOLE = {".geojson", ".json"}  # drivers parse all of these whatever the area
COLLECTIONS = (shapely.GeometryType.MULTIPOLYGON, shapely.GeometryType.GEOMETRYCOLLECTION)


class Features(NamedTuple):
    """Features of a layer, in the order of the file.

    Attributes:
        shapes: Geometries (n,).
        texts: Attribute value of each; empty if it has none or none is requested.
        ids: Feature IDs in the layer (n,).
    """

    shapes: np.ndarray
    texts: list[str]
    ids: np.ndarray

    def take(self, indices: Sequence[int] | np.ndarray) -> Features:
        """Return the features at some indices."""
        chosen = np.asarray(indices, np.int64)
        return Features(self.shapes[chosen], [self.texts[i] for i in chosen.tolist()], self.ids[chosen])


class PolygonParts(NamedTuple):
    """The single polygons of features, and the IDs of irregular features.

    Attributes:
        shapes: Polygons (n,), one per part of a feature.
        texts: Attribute value of each.
        invalid: IDs of features that cross or overlap themselves.
        mixed: IDs of features that also hold lines or points, which are left out.
    """

    shapes: np.ndarray
    texts: list[str]
    invalid: frozenset[int]
    mixed: frozenset[int]


@dataclass(frozen=True)
class VectorLayer:
    """A layer of a vector file.

    Attributes:
        path: The file.
        name: Name of the layer.
        crs: Its coordinate reference system, as WKT.
        attributes: Names of its fields.
        bounds: Bounds of its features; None if it has none.
    """

    path: Path
    name: str
    crs: str
    attributes: tuple[str, ...]
    bounds: Bounds | None

    @property
    def files(self) -> tuple[Path, ...]:
        """The file and, for a shapefile, the file of its attributes."""
        beside = (self.path.with_suffix(suffix) for suffix in (".dbf", ".DBF"))
        table = next((p for p in beside if p.is_file()), None) if self.path.suffix.lower() == ".shp" else None
        return (self.path, table) if table else (self.path,)

    def texts(self, attribute: str) -> list[str]:
        """Return the distinct values of an attribute as text; empty for features without one.

        Raises:
            ConfigError: If the layer has no such attribute.
            RasterReadError: If the file cannot be read.
        """
        if self.bounds is None:  # an image without objects: such a file need not have attributes
            return []
        if attribute not in self.attributes:
            there = ", ".join(self.attributes) or "none"
            raise ConfigError(
                f"dataset.vectors.attribute={attribute}: {self.path} has no such attribute, only {there}."
            )
        field, layer = (text.replace('"', '\\"') for text in (attribute, self.name))
        sql = f'SELECT DISTINCT "{field}" FROM "{layer}"'
        with _explained(self.path):
            found = pyogrio.raw.read(self.path, sql=sql, sql_dialect="OGRSQL", read_geometry=False)[3][0]
        return list(dict.fromkeys(map(as_text, found)))

    def polygons(self, bounds: Bounds, crs: str, attribute: str | None) -> PolygonParts:
        """Read the polygons that may touch an area, in the order of the file.

        Args:
            bounds: The area.
            crs: CRS of the area and of the returned polygons.
            attribute: Attribute to read; None for none.

        Raises:
            DataError: If a feature holds no polygon.
            RasterReadError: If the file cannot be read.
        """
        if not self.may_intersect(bounds, crs):
            return PolygonParts(np.empty(0, object), [], frozenset(), frozenset())
        area = _reprojected_bounds(bounds, crs, self.crs)
        if self.path.suffix.lower() in PARSED_WHOLE:
            found = _read_once(self, attribute, self.path.stat().st_mtime_ns)
            boxes = shapely.bounds(found.shapes)
            found = found.take([i for i, own in enumerate(boxes) if area is None or _overlap(area, own)])
        else:
            found = _read(self, attribute, area)
        areas = self._split_parts(found)
        try:
            return areas._replace(shapes=_reprojected(areas.shapes, self.crs, crs))
        except DataError as error:
            raise DataError(f"{self.path} cannot be drawn on its image: {error}.") from error

    def may_intersect(self, bounds: Bounds, crs: str) -> bool:
        """Return True if features may lie in an area."""
        area = _reprojected_bounds(bounds, crs, self.crs)
        return self.bounds is not None and (area is None or _overlap(area, self.bounds))

    def _split_parts(self, found: Features) -> PolygonParts:
        """Split features into polygons: rasterized as one, overlapping parts would leave holes."""
        parts, owners = found.shapes, np.arange(len(found.shapes))
        while np.isin(shapely.get_type_id(parts), COLLECTIONS).any():
            parts, inner = shapely.get_parts(parts, return_index=True)
            owners = owners[inner]
        is_area = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
        lacking = np.setdiff1d(np.arange(len(found.shapes)), owners[is_area])
        if lacking.size:
            raise DataError(
                f"{self.path} holds a {found.shapes[lacking[0]].geom_type}, but labels are areas: turn lines and "
                "points into polygons (a buffer of their width), or leave them out."
            )
        invalid = found.ids[~shapely.is_valid(found.shapes)]
        areas = Features(parts[is_area], *found.take(owners[is_area])[1:])
        return PolygonParts(*areas[:2], frozenset(invalid.tolist()), frozenset(found.ids[owners[~is_area]].tolist()))


def read_layer(path: Path, name: str | None) -> VectorLayer:
    """Read the properties of a layer.

    Args:
        path: A GeoPackage, GeoJSON or shapefile.
        name: Name of the layer; required if there are several.

    Raises:
        RasterReadError: If the file cannot be read.
        ConfigError: If the layer does not exist, or one must be chosen.
        DataError: If it has no CRS.
    """
    with _explained(path):
        layers = [str(layer) for layer, kind in pyogrio.list_layers(path) if kind is not None or name]
    if (name is None and len(layers) != 1) or (name is not None and name not in layers):
        raise ConfigError(
            f"dataset.vectors.layer={'null' if name is None else name}: {path} has the layers "
            f"{', '.join(layers) or 'none'}; choose one."
        )
    with _explained(path):
        info = pyogrio.read_info(path, layer=name or layers[0], force_total_bounds=True)
    if not info["crs"]:
        raise DataError(f"{path} has no CRS: assign one (in a shapefile's .prj).")
    bounds = info["total_bounds"] if info["features"] else None
    return VectorLayer(path, str(info["layer_name"]), _wkt(info["crs"], path), tuple(info["fields"]), bounds)


def _read(layer: VectorLayer, attribute: str | None, area: Bounds | None) -> Features:
    columns = [attribute] if attribute else []
    with _explained(layer.path):
        _, ids, wkb, fields = pyogrio.raw.read(
            layer.path, layer=layer.name, columns=columns, bbox=area, return_fids=True
        )
        shapes = shapely.from_wkb(wkb)
    texts = [as_text(v) for v in fields[0]] if attribute else [""] * len(shapes)
    order = np.argsort(ids, kind="stable") if layer.path.suffix.lower() == ".gpkg" else np.arange(len(ids))
    kept = [i for i in order if shapes[i] is not None and not shapely.is_empty(shapes[i])]
    return Features(shapes, texts, ids).take(kept)


@lru_cache(maxsize=1)  # many images may share one file
def _read_once(layer: VectorLayer, attribute: str | None, changed_ns: int) -> Features:
    return _read(layer, attribute, None)


def as_text(value: Any) -> str:
    """Return an attribute's value as text: `7` for 7.0, empty for none."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _wkt(crs: str, path: Path) -> str:
    try:
        return str(CRS.from_user_input(crs).to_wkt())
    except CRSError as error:
        raise DataError(f"{path} is in an unknown CRS ({str(crs)[:60]}).") from error


def _reprojected_bounds(bounds: Bounds, source: str, target: str) -> Bounds | None:
    """Return the slightly enlarged bounds of an area in another CRS; None if undefined."""
    try:
        west, south, east, north = transform_bounds(source, target, bounds)
    except DataError:
        return None
    if (
        not np.isfinite([west, south, east, north]).all() or west > east
    ):  # outside the projection, or across the date line
        return None
    margin = max(east - west, north - south) / 1000
    return west - margin, south - margin, east + margin, north + margin


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return bool(one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3])


def _reprojected(shapes: np.ndarray, source: str, target: str) -> np.ndarray:
    here, there = CRS.from_wkt(source), CRS.from_wkt(target)
    if here == there or not len(shapes):
        return shapes
    moved: np.ndarray = shapely.transform(
        shapes, lambda points: transform_points(here, there, points[:, 0], points[:, 1]).T
    )
    return moved


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (DataSourceError, DataLayerError, shapely.errors.GEOSException, ValueError) as error:
        first = " ".join(str(error).split())
        raise RasterReadError(f"{path} cannot be read as polygons ({first[:200]}).") from error
