"""Writing polygons to a file for a GIS: appended to a GeoPackage, from which other formats are then streamed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.raw
import shapely
from rasterio import CRS

from satseg.errors import ConfigError, ResourceError
from satseg.files import atomic_path

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".fgb": "FlatGeobuf"}
BATCH = 50_000  # polygons: opening and closing the file again takes longer than writing a few


def driver_of(path: Path) -> str:
    """Return GDAL's name of the format that a file's name asks for.

    Raises:
        ConfigError: If it is none of ours.
    """
    try:
        return DRIVERS[path.suffix.lower()]
    except KeyError:
        raise ConfigError(f"vectors={path}: expected a name that ends in {', '.join(DRIVERS)}.") from None


@dataclass
class Layer:
    """A layer of polygons that grows; `open_layer` makes one."""

    path: Path
    name: str
    crs: str | None
    count: int = 0
    _waiting: list[tuple[np.ndarray, dict[str, np.ndarray]]] = field(default_factory=list)
    _made: bool = False

    def add(self, polygons: np.ndarray, fields: dict[str, np.ndarray]) -> None:
        """Add polygons in the layer's CRS, with their attributes."""
        self._waiting.append((shapely.to_wkb(shapely.orient_polygons(polygons)), fields))
        self.count += len(polygons)
        if sum(len(wkb) for wkb, _ in self._waiting) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        wkb = np.concatenate([w for w, _ in self._waiting])
        names = list(self._waiting[0][1])
        data = [np.concatenate([f[name] for _, f in self._waiting]) for name in names]
        self._waiting.clear()
        pyogrio.raw.write(
            self.path,
            wkb,
            data,
            names,
            layer=self.name,
            driver="GPKG",
            geometry_type="Polygon",
            crs=self.crs,
            append=self._made,
        )
        self._made = True


@contextmanager
def open_layer(path: Path, crs: str | None) -> Iterator[Layer]:
    """Give a layer to add polygons to; the file is there, whole, when the block ends well.

    Args:
        path: Ends in .gpkg, .geojson or .fgb. GeoJSON is written in WGS84 longitude and latitude, as its standard (RFC
            7946) asks, the others in the CRS.
        crs: As WKT; None for none.

    Raises:
        ConfigError: If the path has another ending, or GeoJSON cannot hold the CRS.
        ResourceError: If the file cannot be written.
    """
    driver = driver_of(path)
    if driver == "GeoJSON" and crs and not (CRS.from_wkt(crs).is_projected or CRS.from_wkt(crs).is_geographic):
        raise ConfigError(
            f"vectors={path}: the map's CRS has no longitude and latitude for GeoJSON; write .gpkg or .fgb."
        )
    with write_errors(path), atomic_path(path) as temporary:
        layer = Layer(temporary.with_name("layer.gpkg"), path.stem, crs)
        target = layer.path.with_suffix(path.suffix.lower())  # FlatGeobuf makes a folder of any other name
        yield layer
        layer.flush()
        if driver != "GPKG":
            _convert(layer, target, driver)
        _check(target, layer.count, indexed=driver == "GPKG")
        target.replace(temporary)


def _convert(layer: Layer, target: Path, driver: str) -> None:
    options: dict[str, Any] = {}
    if driver == "GeoJSON" and layer.crs:
        options = {"RFC7946": "YES", "COORDINATE_PRECISION": 9}  # a tenth of a millimetre
    with pyogrio.open_arrow(layer.path) as (meta, stream):
        pyogrio.write_arrow(
            stream,
            target,
            layer=layer.name,
            driver=driver,
            geometry_name=meta["geometry_name"] or "wkb_geometry",
            geometry_type="Polygon",
            crs=layer.crs,
            layer_options=options,
        )


def _check(target: Path, count: int, *, indexed: bool) -> None:
    """Look whether the last polygon and the spatial index are there: GDAL keeps silent when closing a file fails."""
    there = len(pyogrio.raw.read(target, skip_features=max(count - 1, 0), max_features=2)[2])
    if there != min(count, 1) or (indexed and not pyogrio.read_info(target)["capabilities"]["fast_spatial_filter"]):
        raise pyogrio.errors.DataSourceError("its end is missing; make room on the disk")


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn what GDAL says in the block into an error that names the file.

    Raises:
        ResourceError: Instead.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            yield
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise ResourceError(f"{path} cannot be written: {' '.join(str(error).split())}.") from error
