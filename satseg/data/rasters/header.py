"""Headers of raster files: size, bands, dtype, georeference and validity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio

from satseg.data.rasters.opening import is_remote, open_raster, redacted
from satseg.data.rasters.orientation import is_turned
from satseg.data.rasters.pixel_size import pixel_size
from satseg.data.rasters.validity import Validity
from satseg.errors import ConfigError, RasterReadError
from satseg.spec import MAX_NAME


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
        return joint_dtype(self.validity.dtypes[number - 1] for number in bands)


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
        RasterReadError: If the file is missing or not a raster.
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
            dtype=joint_dtype(source.dtypes[n - 1] for n in bands),
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


def joint_dtype(dtypes: Iterable[str]) -> str:
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
