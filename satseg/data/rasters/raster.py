"""Reading windows of raster files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from satseg.data.rasters.header import RasterInfo, Window, joint_dtype
from satseg.data.rasters.opening import open_raster, redacted
from satseg.data.rasters.validity import Validity, can_hold
from satseg.errors import BandError

STRIP_VALUES, STRIP_ROWS = 2**24, 256  # numbers in memory at a time; rows of a tile, so that each tile is read once


def _data_bands(source: Any) -> list[int]:
    alpha = Validity.of(source).alpha
    return [n for n in source.indexes if n not in alpha]


def read_window(path: Path | str, window: Window | None = None, bands: Sequence[int] | None = None) -> np.ndarray:
    """Read one window of a raster as stored, without scaling.

    Args:
        path: A file, or a URL (`https://`, `s3://`, `gs://`), of which only the needed ranges are read.
        window: Window in pixels; the whole raster by default. Parts outside are filled with nodata, or 0.
        bands: One-based band numbers, in the wanted order; all but alpha by default. A requested alpha band counts
            as data.

    Returns:
        Array (bands, height, width) in the raster's own dtype.

    Raises:
        RasterReadError: If the file is missing, truncated or not a raster; names the file and the reason.
        BandError: If the raster has no such band; lists its bands.
    """
    with open_raster(path) as source:
        return _read(source, window or Window(0, 0, source.width, source.height), _bands(source, bands, path))


def read_strips(path: Path | str) -> Iterator[np.ndarray]:
    """Yield a whole raster as strips (bands, height, width) of full width, from top to bottom.

    Raises:
        RasterReadError: As `read_window`.
    """
    with open_raster(path) as source:
        bands = _data_bands(source)
        rows = max(STRIP_VALUES // (source.width * len(bands)) // STRIP_ROWS, 1) * STRIP_ROWS
        for row in range(0, source.height, rows):
            yield _read(source, Window(0, row, source.width, min(rows, source.height - row)), bands)


def _bands(source: Any, bands: Sequence[int] | None, path: Path | str) -> list[int]:
    there = _data_bands(source)
    if bands is None:
        return there
    missing = [b for b in bands if b not in source.indexes]
    if missing:
        known = ", ".join(map(str, source.indexes))
        raise BandError(f"{redacted(path)} has no band {missing[0]}, only {known}; set dataset.bands to some of these.")
    return list(bands)


def _inside(window: Window, width: int, height: int) -> tuple[slice, slice, rasterio.windows.Window]:
    """Return the rows and columns of a result that lie inside the raster, and their window in the raster."""
    left, top = max(window.col, 0), max(window.row, 0)
    right, bottom = min(window.col + window.width, width), min(window.row + window.height, height)
    right, bottom = max(right, left), max(bottom, top)
    rows = slice(top - window.row, bottom - window.row)
    cols = slice(left - window.col, right - window.col)
    return rows, cols, rasterio.windows.Window(left, top, right - left, bottom - top)


def _read(source: Any, window: Window, bands: Sequence[int]) -> np.ndarray:
    rows, cols, part = _inside(window, source.width, source.height)
    if part.width == window.width and part.height == window.height:
        return read_bands(source, bands, window=part)
    result = np.empty((len(bands), window.height, window.width), joint_dtype(source.dtypes[n - 1] for n in bands))
    for array, number in zip(result, bands, strict=True):
        array[:] = _fill(source, number)
    if part.width and part.height:
        result[:, rows, cols] = read_bands(source, bands, window=part)
    return result


def read_bands(source: Any, bands: Sequence[int], **part: Any) -> np.ndarray:
    """Read bands (bands, h, w) of an open raster in the dtype that holds the numbers of all of them.

    Args:
        source: The open raster.
        bands: One-based numbers.
        part: Arguments of rasterio's `read`: `window`, `out_shape`.
    """
    dtypes = {source.dtypes[number - 1] for number in bands}
    if len(dtypes) == 1:
        whole: np.ndarray = source.read(list(bands), **part)
        return whole
    dtype = joint_dtype(dtypes)
    return np.stack([source.read(number, **part).astype(dtype) for number in bands])


def _fill(source: Any, number: int) -> float:
    """Return a band's nodata value, or 0 if there is none that its dtype can hold."""
    value, dtype = source.nodatavals[number - 1], source.dtypes[number - 1]
    if value is None or not (math.isnan(value) or can_hold(dtype, value)):
        return 0
    return float(value) if np.issubdtype(dtype, np.floating) else int(value)


def read_image(
    path: Path | str,
    window: Window | None = None,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    default_nodata: float | None = None,
    opener: Callable[[Path | str], AbstractContextManager[Any]] = open_raster,
    info: RasterInfo | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read a window of an image and its valid pixels.

    Args:
        path: As for `read_window`.
        window: As for `read_window`.
        bands: As for `read_window`.
        nodata: Nodata value of all bands; each band's own by default.
        default_nodata: Nodata value if no band declares one, such as that of a model's training data.
        opener: Opens the file; `OpenRasters.open` leaves it open.
        info: The file's header if known, so that it is not read again.

    Returns:
        The image (bands, height, width) as stored, in the dtype that holds the numbers of all its bands; and a boolean
        array (height, width), False where a pixel is nodata (see `is_nodata_per_band`) or not finite, where a mask or
        an alpha band hides it, and outside the raster.

    Raises:
        RasterReadError: As `read_window`.
        BandError: As `read_window`.
    """
    with opener(path) as source:
        window = window or Window(0, 0, source.width, source.height)
        if info is not None and set(bands or ()) <= set(range(1, len(info.band_names) + 1)):
            numbers = list(bands or info.bands)
        else:
            numbers = _bands(source, bands, path)
        return read_open_image(
            source, window, numbers, nodata, default_nodata, info.validity if info is not None else None
        )


def read_open_image(
    source: Any,
    window: Window,
    bands: Sequence[int],
    nodata: float | None = None,
    default_nodata: float | None = None,
    validity: Validity | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read a window as `read_image` does from an open raster, with its `validity` if that is known."""
    image = _read(source, window, bands)
    validity = validity or Validity.of(source)
    valid = np.zeros(image.shape[1:], bool)
    rows, cols, part = _inside(window, source.width, source.height)
    if part.width and part.height:
        values = validity.nodata_values(bands, nodata, default_nodata)
        valid[rows, cols] = validity.valid_pixels(source, image[:, rows, cols], bands, values, window=part)
    return image, valid
