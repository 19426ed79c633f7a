"""Files of a finished map to take away, made when they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import rasterio
import rasterio.shutil

from satseg.data.opening import quiet
from satseg.errors import SatsegError
from satseg.files import atomic_path
from satseg.inference.reading import TILED_CACHE_BYTES
from satseg.mapping import write_areas, write_vectors
from satseg.serving.segmenting import Segmented

logger = logging.getLogger(__name__)

ENDINGS = {"GeoTIFF": ".tif", "PNG": ".png", "GeoPackage": ".gpkg", "GeoJSON": ".geojson", "CSV": ".csv"}


def write_picture(classes: Path, path: Path) -> None:
    """Write a map as a PNG of its classes' colours, in full size."""
    options = {"GDAL_PAM_ENABLED": "NO", "GDAL_CACHEMAX": TILED_CACHE_BYTES}  # no file of GDAL's beside it
    with rasterio.Env(**options), quiet(), atomic_path(path) as temporary:
        rasterio.shutil.copy(classes, temporary, driver="PNG")


def write_downloads(found: Segmented, class_names: Sequence[str]) -> dict[str, Path]:
    """Make what a user may take away.

    Returns:
        Files by kind, one of `ENDINGS`; without polygons that cannot be written.

    Raises:
        SatsegError: If another file cannot be written.
    """
    paths = {kind: found.classes.with_suffix(ending) for kind, ending in ENDINGS.items()}
    if not paths["PNG"].exists():
        write_picture(found.classes, paths["PNG"])
    for kind in ("GeoPackage", "GeoJSON"):
        try:
            if not paths[kind].exists():
                write_vectors(found.classes, paths[kind], class_names)
        except SatsegError as error:  # where GeoJSON's longitude and latitude are not known, the others are
            logger.warning("There is no %s for a visitor: %s", kind, error)
            del paths[kind]
    write_areas(found.areas, paths["CSV"])
    return paths
