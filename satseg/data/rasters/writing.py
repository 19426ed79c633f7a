"""Writing small rasters in one piece; `satseg.inference` writes scenes strip by strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from satseg.data.rasters.opening import quiet, reason
from satseg.errors import DataError
from satseg.files import atomic_path


def write_raster(
    path: Path,
    array: np.ndarray,
    *,
    crs: str | None = None,
    transform: Sequence[float] | None = None,
    nodata: float | None = None,
    palette: Mapping[int, tuple[int, int, int]] | None = None,
    band_names: Sequence[str] = (),
) -> None:
    """Write a tiled, compressed GeoTIFF atomically.

    Args:
        path: The file to write; its folder is made.
        array: Shape (bands, height, width).
        crs: Anything that rasterio accepts as a CRS.
        transform: Six numbers of the affine geotransform.
        nodata: Value of missing pixels.
        palette: RGB by value, for class maps.
        band_names: One per band.

    Raises:
        DataError: If the file cannot be written.
    """
    count, height, width = array.shape
    profile: dict[str, Any] = {"driver": "GTiff", "count": count, "height": height, "width": width}
    profile |= {"dtype": array.dtype, "nodata": nodata, "compress": "deflate", "tiled": True, "crs": crs}
    profile |= {"blockxsize": 256, "blockysize": 256}
    if transform is not None:
        profile["transform"] = rasterio.Affine(*transform)
    if count != 3:  # else GDAL takes the fourth of four uint8 bands for alpha
        profile["photometric"] = "minisblack"
    try:
        with atomic_path(Path(path)) as temporary, quiet(), rasterio.open(temporary, "w", **profile) as target:
            target.write(array)
            for number, name in enumerate(band_names, 1):
                target.set_band_description(number, name)
            if palette:
                target.write_colormap(1, {value: (*rgb, 255) for value, rgb in palette.items()})
    except (RasterioError, OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be written ({reason(error)}).") from error
