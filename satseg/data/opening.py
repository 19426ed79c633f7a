"""Opening rasters so that whatever goes wrong is one error that names the file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from satseg.errors import RasterReadError, ResourceError

PNG_END = b"IEND\xaeB`\x82"


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """Open a raster; what goes wrong in the block, too, becomes an error that names the file."""
    options = _checked_options(path)
    try:
        with rasterio.Env(**options), quiet(), rasterio.open(path if "://" in str(path) else Path(path)) as source:
            yield source
    except (RasterioError, OSError, ValueError, OverflowError) as error:
        raise RasterReadError(f"{path} cannot be read; it is truncated or no raster ({reason(error)}).") from error
    except MemoryError as error:
        raise ResourceError(f"{path} does not fit into memory; read it by windows.") from error


def reason(error: Exception) -> str:
    """Return what GDAL said, on one line."""
    text = " ".join(str(error.__cause__ or error).split())
    return text.partition(" (this error can be turned")[0].rstrip(".")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warning that a raster has no coordinates: photographs and masks often have none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _checked_options(path: Path) -> dict[str, str]:
    """Refuse what cannot be a raster, and return the GDAL options to open the rest with."""
    if "://" in str(path):
        return {}
    path = Path(path)
    if not path.exists():
        raise RasterReadError(f"{path} is not there; check the path.")
    if path.is_dir():
        raise RasterReadError(f"{path} is a folder; a raster file was expected.")
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 8, 0))
            tail = file.read()
    except OSError as error:
        raise RasterReadError(f"{path} cannot be read ({error.strerror}).") from error
    if not size:
        raise RasterReadError(f"{path} is empty; copy or download it again.")
    # GDAL's fast path for PNG fills what a truncated file lacks without a word; the slow one reports it.
    suspicious = path.suffix.lower() == ".png" and tail != PNG_END
    return {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"} if suspicious else {}
