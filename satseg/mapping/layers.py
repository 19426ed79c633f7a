"""Writing of polygon layers: appended to a GeoPackage, and then converted to other formats."""

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
BATCH = 50_000  # polygons per write: reopening the file takes longer than writing a few


def driver_of(path: Path) -> str:
    """Return the GDAL driver for a file suffix.

    Raises:
        ConfigError: If the suffix is not supported.
    """
    try:
        return DRIVERS[path.suffix.lower()]
    except KeyError:
        raise ConfigError(f"vectors={path}: expected a name that ends in {', '.join(DRIVERS)}.") from None


@dataclass
class Layer:
    """A polygon layer that is being written; see `open_layer`."""

    path: Path
    name: str
    crs: str | None
    count: int = 0
    _pending: list[tuple[np.ndarray, dict[str, np.ndarray]]] = field(default_factory=list)
    _exists: bool = False

    def add(self, polygons: np.ndarray, fields: dict[str, np.ndarray]) -> None:
        """Add polygons in the layer's CRS, with their attributes."""
        self._pending.append((shapely.to_wkb(shapely.orient_polygons(polygons)), fields))
        self.count += len(polygons)
        if sum(len(wkb) for wkb, _ in self._pending) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write buffered polygons."""
        if not self._pending:
            return
        wkb = np.concatenate([w for w, _ in self._pending])
        names = list(self._pending[0][1])
        data = [np.concatenate([f[name] for _, f in self._pending]) for name in names]
        self._pending.clear()
        pyogrio.raw.write(
            self.path,
            wkb,
            data,
            names,
            layer=self.name,
            driver="GPKG",
            geometry_type="Polygon",
            crs=self.crs,
            append=self._exists,
        )
        self._exists = True


@contextmanager
def open_layer(path: Path, crs: str | None) -> Iterator[Layer]:
    """Open a layer for adding polygons; the file is written atomically at the end of the block.

    Args:
        path: A .gpkg, .geojson or .fgb file. GeoJSON is written in WGS84 longitude and latitude, as required by RFC
            7946, other formats in the given CRS.
        crs: CRS as WKT, or None.

    Raises:
        ConfigError: If the suffix is not supported, or the CRS cannot be converted for GeoJSON.
        ResourceError: If the file cannot be written.
    """
    driver = driver_of(path)
    if driver == "GeoJSON" and crs and not (CRS.from_wkt(crs).is_projected or CRS.from_wkt(crs).is_geographic):
        raise ConfigError(
            f"vectors={path}: the map's CRS has no longitude and latitude for GeoJSON; write .gpkg or .fgb."
        )
    with write_errors(path), atomic_path(path) as temporary:
        layer = Layer(temporary.with_name("layer.gpkg"), path.stem, crs)
        target = layer.path.with_suffix(path.suffix.lower())  # FlatGeobuf creates a folder for other suffixes
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
    """Check that the last polygon and the spatial index exist, as GDAL does not report errors on closing a file."""
    found = len(pyogrio.raw.read(target, skip_features=max(count - 1, 0), max_features=2)[2])
    if found != min(count, 1) or (indexed and not pyogrio.read_info(target)["capabilities"]["fast_spatial_filter"]):
        raise pyogrio.errors.DataSourceError("the end of the file is missing; free some disk space")


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn GDAL errors in the block into an error that names the file.

    Raises:
        ResourceError: If GDAL cannot write the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            yield
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise ResourceError(f"{path} cannot be written: {' '.join(str(error).split())}.") from error
