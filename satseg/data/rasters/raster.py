"""Reading headers and windows of raster files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio

from satseg.data.rasters.opening import is_remote, open_raster, redacted
from satseg.data.rasters.orientation import is_turned
from satseg.data.rasters.pixel_size import pixel_size
from satseg.data.rasters.validity import Validity, can_hold
from satseg.errors import BandError, ConfigError, RasterReadError
from satseg.spec import MAX_NAME

STRIP_VALUES, STRIP_ROWS = 2**24, 256  # numbers in memory at a time; rows of a tile, so that each tile is read once


class Window(NamedTuple):
    """A window of a raster in pixels; it may extend beyond the raster."""

    col: int
    row: int
    width: int
    height: int


def parse_window(wanted: Any) -> Window | None:
    """Return the window given by four numbers; None for None.

    Raises:
        ConfigError: If it is not a valid window.
    """
    if wanted is None:
        return None
    numbers = list(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else []
    if len(numbers) != 4 or not all(isinstance(n, int) for n in numbers) or min(numbers[2:]) < 1:
        raise ConfigError(f"window={wanted}: expected '[column,row,width,height]' in pixels.")
    return Window(*numbers)


@dataclass(frozen=True)
class RasterInfo:
    """Header of a raster.

    Attributes:
        path: The file or URL.
        width: Width in pixels, as read upright.
        height: Height in pixels, as read upright.
        count: Number of bands, without alpha.
        bands: One-based numbers of these bands.
        dtype: The dtype that holds the numbers of all these bands.
        nodata: The nodata value that all these bands declare; None if there is none, or they differ.
        crs: Coordinate reference system as WKT; None if there is none.
        transform: The six numbers of the affine geotransform; None if there is none.
        band_names: Names of all bands, including alpha.
        pixel_m: Pixel size on the ground at the centre, along rows and along columns, in metres; None if unknown.
        palette: RGB by value, for palette images.
        validity: Nodata values, masks and alpha bands.
        turned: Whether the file is stored rotated and read upright; None if it is unknown which of its rows is north.
        format: GDAL's name of the driver that reads the file.
        driver: The only driver allowed to open the file; any by default.
        scale_offsets: Scale and offset that the file declares for each band; numbers are read as stored, without them.
    """

    path: Path | str
    width: int
    height: int
    count: int
    bands: tuple[int, ...]
    dtype: str
    nodata: float | None
    crs: str | None
    transform: tuple[float, ...] | None
    band_names: tuple[str, ...]
    pixel_m: tuple[float, float] | None
    palette: Mapping[int, tuple[int, int, int]] | None
    validity: Validity
    turned: bool | None
    format: str
    driver: str | None = None
    scale_offsets: tuple[tuple[float, float], ...] = ()

    @property
    def gsd_m(self) -> float | None:
        """Edge in metres of a square with the area of a pixel on the ground; None if unknown."""
        if self.pixel_m is None:
            return None
        along, down = self.pixel_m
        return along if along == down else math.sqrt(along * down)

    def scale_offsets_of(self, bands: Sequence[int]) -> set[tuple[float, float]]:
        """Return the distinct (scale, offset) that the file declares for bands; (1, 0) if it declares none."""
        return {self.scale_offsets[number - 1] for number in bands if self.scale_offsets} or {(1.0, 0.0)}

    def dtype_of(self, bands: Sequence[int]) -> str:
        """Return the dtype in which bands are read, by their one-based numbers."""
        return _joint_dtype(self.validity.dtypes[number - 1] for number in bands)


def window_transform(info: RasterInfo, window: Window) -> tuple[float, ...] | None:
    """Return the geotransform of a window; None if the raster has none."""
    if info.transform is None:
        return None
    return tuple(rasterio.Affine(*info.transform) @ rasterio.Affine.translation(window.col, window.row))[:6]


def read_info(path: Path | str, driver: str | None = None) -> RasterInfo:
    """Read a raster's header.

    Args:
        path: A file or URL.
        driver: As for `open_raster`.

    Raises:
        RasterReadError: If the file is missing or no raster.
    """
    with open_raster(path, driver) as source:
        validity = Validity.of(source)
        bands = [n for n in source.indexes if n not in validity.alpha]
        placed = not source.transform.is_identity
        return RasterInfo(
            path=path if is_remote(path) else Path(path),
            width=source.width,
            height=source.height,
            count=len(bands),
            bands=tuple(bands),
            dtype=_joint_dtype(source.dtypes[n - 1] for n in bands),
            nodata=validity.common_nodata(bands),
            crs=source.crs.to_wkt() if source.crs else None,
            transform=tuple(source.transform)[:6] if placed else None,
            band_names=tuple(_band_name(source.descriptions[b - 1], b) for b in source.indexes),
            pixel_m=pixel_size(source.crs, source.transform, source.width, source.height) if placed else None,
            palette=_palette(source),
            validity=validity,
            turned=is_turned(source, path),
            format=source.driver,
            driver=driver,
            scale_offsets=tuple((float(s), float(o)) for s, o in zip(source.scales, source.offsets, strict=True)),
        )


def read_real_info(path: Path | str) -> RasterInfo:
    """Read the header of a raster of real numbers.

    Raises:
        RasterReadError: As `read_info`, and if the raster holds complex numbers.
    """
    info = read_info(path)
    if info.dtype.startswith("complex"):
        raise RasterReadError(f"{redacted(path)} holds complex numbers; write their amplitude or decibels instead.")
    return info


def _data_bands(source: Any) -> list[int]:
    alpha = Validity.of(source).alpha
    return [n for n in source.indexes if n not in alpha]


def _joint_dtype(dtypes: Iterable[str]) -> str:
    """Return the dtype that holds the numbers of all bands, whose dtypes may differ in a VRT."""
    first, *others = dict.fromkeys(dtypes)
    complex_ones = [dtype for dtype in (first, *others) if dtype.startswith("complex")]  # some unknown to NumPy
    return str(complex_ones[0] if complex_ones else np.result_type(first, *others) if others else first)


def _band_name(description: str | None, number: int) -> str:
    """Return a band's name in the file, on one line and cut to the length allowed in model files."""
    line = " ".join("".join(c if c.isprintable() else " " for c in description or "").split())
    return line[:MAX_NAME].strip() or default_band_name(number)


def default_band_name(number: int) -> str:
    """Return the default name of a band by its one-based number."""
    return f"band_{number}"


def _palette(source: Any) -> dict[int, tuple[int, int, int]] | None:
    try:
        return {value: tuple(rgba[:3]) for value, rgba in source.colormap(1).items()}
    except ValueError:  # the raster has no palette
        return None


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
        RasterReadError: If the file is missing, truncated or no raster; names the file and the reason.
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
    result = np.empty((len(bands), window.height, window.width), _joint_dtype(source.dtypes[n - 1] for n in bands))
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
    dtype = _joint_dtype(dtypes)
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
