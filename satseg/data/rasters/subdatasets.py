"""Subdatasets: rasters inside a container file, such as the variables of a netCDF file."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path

import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError

from satseg.data.rasters.opening import check_bands, quiet, reason
from satseg.data.rasters.orientation import is_turned, upright
from satseg.errors import RasterReadError
from satseg.files import atomic_path, cache_folder

NAME = re.compile(r"[A-Z][A-Z0-9_]+:(.+)")  # GDAL's syntax, with the driver's prefix
MAX_NAME = 150  # characters of a file name


def is_subdataset(named: object) -> bool:
    """Return True for a GDAL subdataset name, such as `NETCDF:"scene.nc":red`, False for a path."""
    return _container(str(named)) is not None


def is_zarr_store(folder: Path) -> bool:
    """Return True if a folder is a Zarr store."""
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def write_subdataset(name: str) -> Path:
    """Write a VRT of a subdataset into the cache folder, and return its path.

    Args:
        name: GDAL's name of the subdataset.

    Raises:
        RasterReadError: If there is no such raster, or it is unknown which of its rows is north.
        ResourceError: If the cache folder cannot be written to.
    """
    container = _container(name)
    assert container is not None
    name = name.replace(str(container), str(container.absolute()), 1)
    state = container.stat()
    key = hashlib.sha256(repr((name, state.st_size, state.st_mtime_ns)).encode(errors="surrogateescape")).hexdigest()
    part = name.rpartition(str(container.absolute()))[2].strip('":/')
    stem = re.sub(r"[^\w.() -]+", "_", f"{container.stem}_{part}")[-MAX_NAME:].strip("_")
    path = cache_folder() / "parts" / key[:16] / f"{stem}.vrt"
    try:
        with quiet(), rasterio.open(name) as source:
            check_bands(source, name)
            if is_turned(upright(source, container), container) is not False:
                raise RasterReadError(
                    f"{name} has no coordinates known to GDAL: set GDAL_NETCDF_BOTTOMUP=NO in the environment if the "
                    "first stored row is north, and YES if it is south."
                )
            if not path.is_file():  # the key includes the state of the container
                with atomic_path(path) as temporary:
                    rasterio.shutil.copy(source, temporary, driver="VRT")
    except RasterioError as error:
        raise RasterReadError(f"{name} cannot be read ({reason(error)}).") from error
    return path


def _container(name: str) -> Path | None:
    """Return the container file or Zarr folder in a subdataset name; None if there is none."""
    found = NAME.fullmatch(name)
    if found is None or Path(name).exists():
        return None
    if '"' in found[1]:
        candidates = [found[1].split('"')[1]]
    else:
        pieces = found[1].split(":")
        spans = itertools.combinations(range(len(pieces) + 1), 2)
        candidates = sorted((":".join(pieces[i:j]) for i, j in spans), key=len, reverse=True)
    return next((path for path in map(Path, filter(None, candidates)) if path.exists()), None)
