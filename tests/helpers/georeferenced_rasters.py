"""Georeferenced rasters, written with rasterio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio


def at(east: float, south: float, gsd: float = 10) -> dict[str, Any]:
    """Return CRS and geotransform for a position in metres from a common corner, and a pixel size."""
    affine = rasterio.Affine(gsd, 0, 500_000 + east, 0, -gsd, 4_600_000 - south)
    return {"crs": "EPSG:32633", "transform": affine}


def write(path: Path, array: np.ndarray, **options: Any) -> Path:
    """Write an array (bands, height, width) or (height, width) as a GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = array if array.ndim == 3 else array[None]
    profile = {"driver": "GTiff", "count": len(bands), "dtype": bands.dtype}
    with rasterio.open(path, "w", height=bands.shape[1], width=bands.shape[2], **profile, **options) as target:
        target.write(bands)
    return path
