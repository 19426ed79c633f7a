"""Combination of the polygons of several maps in one GeoPackage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import pyogrio.raw
from rasterio import CRS

from satseg.data.rasters.opening import open_raster
from satseg.files import atomic_path
from satseg.mapping.ground import Ground
from satseg.mapping.layers import BATCH, driver_of, write_errors


class _Kind(NamedTuple):
    """Key of a layer: the CRS of the polygons, as WKT, and whether their areas are in square metres."""

    crs: str | None
    metric: bool


def join_layers(files: Mapping[str, tuple[Path, Path]], output: Path) -> dict[str, int]:
    """Write the polygons of several maps into one GeoPackage: a layer for each CRS, with the map's name as `scene`.

    Polygons are read and written in batches, so memory does not grow with their number.

    Args:
        files: Polygons as written by `write_vectors`, and the map, by map name.
        output: The GeoPackage.

    Returns:
        The number of polygons by layer. A single layer has the name of the file; with several, the CRS is appended.

    Raises:
        RasterReadError: If a map cannot be read.
        ResourceError: If the output cannot be written.
    """
    kinds = {name: _kind(polygons, raster) for name, (polygons, raster) in files.items()}
    layers = _layer_names(output.stem, list(dict.fromkeys(kinds.values())))
    counts = dict.fromkeys(layers.values(), 0)
    made: set[str] = set()
    with write_errors(output), atomic_path(output) as temporary:
        for name, (polygons, _) in files.items():
            layer = layers[kinds[name]]
            for wkb, fields in _batches(polygons):
                counts[layer] += len(wkb)
                columns = {"scene": np.full(len(wkb), name, object), **fields}
                pyogrio.raw.write(
                    temporary,
                    wkb,
                    list(columns.values()),
                    list(columns),
                    layer=layer,
                    driver="GPKG",
                    geometry_type="Polygon",
                    crs=kinds[name].crs,
                    append=layer in made,
                )
                made.add(layer)
        for layer in made:
            if pyogrio.read_info(temporary, layer=layer)["features"] != counts[layer]:
                raise pyogrio.errors.DataSourceError("the end of the file is missing; free some disk space")
    return counts


def _kind(polygons: Path, raster: Path) -> _Kind:
    with open_raster(raster) as source:
        ground = Ground.of(source)
    if ground.crs and driver_of(polygons) == "GeoJSON":
        return _Kind(CRS.from_epsg(4326).to_wkt(), ground.metric)
    return _Kind(ground.crs, ground.metric)


def _layer_names(stem: str, kinds: list[_Kind]) -> dict[_Kind, str]:
    """Return a layer name for each kind; equivalent CRSs share a layer."""
    codes = {kind: (_code(kind.crs), kind.metric) for kind in kinds}
    unique = list(dict.fromkeys(codes.values()))
    if len(unique) == 1:
        return dict.fromkeys(kinds, stem)
    known = [code if metric or code == "pixels" else f"{code}_pixels" for code, metric in unique]
    names = [f"{stem}_{n if len(n) < 20 else f'crs_{number}'}" for number, n in enumerate(known, 1)]
    return {kind: names[unique.index(codes[kind])] for kind in kinds}


def _code(crs: str | None) -> str:
    """Return the EPSG code of a CRS as a name, or its WKT if it has none."""
    if crs is None:
        return "pixels"
    epsg = CRS.from_wkt(crs).to_epsg()
    return crs if epsg is None else f"epsg_{epsg}"


def _batches(path: Path) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yield batches of polygons as WKB with attributes; one empty batch if the file has fields but no polygons."""
    start = 0
    while True:
        meta, _, wkb, columns = pyogrio.raw.read(path, skip_features=start, max_features=BATCH)
        names = [str(name) for name in meta["fields"]]
        if len(wkb) or (names and not start):
            yield wkb, dict(zip(names, columns, strict=True))
        start += len(wkb)
        if len(wkb) < BATCH:
            return
