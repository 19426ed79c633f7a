"""Reading a scene window by window, converted to the values that the model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio import Affine
from torch import Tensor

from satseg.data.dataset import to_tensor
from satseg.data.rasters.header import RasterInfo, Window, window_transform
from satseg.data.rasters.opening import CACHE_BYTES, open_raster, redacted
from satseg.data.rasters.pixel_size import pixel_size
from satseg.data.rasters.raster import read_bands, read_open_image
from satseg.data.rasters.validity import Validity
from satseg.errors import ConfigError
from satseg.inference.resampling import resample

VRT_CACHE_BYTES = 256 << 20
SAMPLE_COUNT, SAMPLE_SIDE = 4, 128  # sampled windows along each axis, and their side in pixels


@dataclass(frozen=True)
class SceneSource:
    """A scene, and the conversion of its stored values to those of the model's training.

    Attributes:
        info: Header of the scene.
        bands: One-based numbers, in the model's order.
        nodata: Stored value of missing pixels, as set by the user; the file's own by default.
        default_nodata: Stored value of missing pixels if the file declares none: the training's.
        scale: Factor applied to stored values.
        offset: Added after scaling.
        area: The part of the file to use as the scene; `info` describes that part.
        resampled: Whether the file's pixel size differs from that of `info`, so that it is resampled on reading.
    """

    info: RasterInfo
    bands: tuple[int, ...]
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    area: Window | None = None
    resampled: bool = False
    default_nodata: float | None = None

    @contextmanager
    def open(self, cache_bytes: int = CACHE_BYTES) -> Iterator[SceneReader]:
        """Open the scene, for use by one thread."""
        with rasterio.Env(GDAL_CACHEMAX=cache_bytes), open_raster(self.info.path, self.info.driver) as source:
            if not self.resampled:
                yield SceneReader(self, source, source)
                return
            with resample(source, self.info, self.bands, self.nodata, self.default_nodata) as resampled:
                yield SceneReader(self, resampled, source)

    def convert(self, image: np.ndarray) -> np.ndarray:
        """Apply scale and offset to stored values; return them unchanged if neither is set."""
        if self.scale == 1.0 and self.offset == 0.0:
            return image
        converted: np.ndarray = image.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return converted


@dataclass(frozen=True)
class SceneReader:
    """An open scene.

    Attributes:
        scene: The scene.
        source: The open raster, resampled if requested.
        stored: The open raster as stored.
    """

    scene: SceneSource
    source: Any
    stored: Any

    @cached_property
    def validity(self) -> Validity:
        """Markers of missing pixels in `source`; resampling has already applied nodata, options included."""
        return Validity.of(self.source)

    @property
    def nodata(self) -> dict[str, float | None]:
        """Values of missing pixels besides those that `source` declares."""
        if self.scene.resampled:
            return {}
        return {"nodata": self.scene.nodata, "default_nodata": self.scene.default_nodata}

    def read(self, window: Window) -> tuple[Tensor, Tensor]:
        """Return raw values (C, h, w) and the valid pixels (h, w) of a window."""
        if self.scene.area is not None:
            window = window._replace(col=window.col + self.scene.area.col, row=window.row + self.scene.area.row)
        image, valid = read_open_image(self.source, window, self.scene.bands, validity=self.validity, **self.nodata)
        return to_tensor(self.scene.convert(image)), torch.from_numpy(valid)

    def sample(self) -> np.ndarray:
        """Return valid pixels (C, n) sampled across the scene."""
        return sample(self.read, self.scene.info.height, self.scene.info.width)

    def thumbnail(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the whole scene, (C, h, w), and its valid pixels, (h, w), with at most `side` pixels a side."""
        area = self.scene.area or Window(0, 0, self.scene.info.width, self.scene.info.height)
        factor = max(1.0, max(area.width, area.height) / side)
        shape = tuple(max(1, round(n / factor)) for n in (area.height, area.width))
        part = {"window": rasterio.windows.Window(*area), "out_shape": shape}
        image = read_bands(self.source, self.scene.bands, **part)
        values = self.validity.nodata_values(self.scene.bands, **self.nodata)
        return self.scene.convert(image), self.validity.valid_pixels(
            self.source, image, self.scene.bands, values, **part
        )


def sample(read: Callable[[Window], tuple[Tensor, Tensor]], height: int, width: int) -> np.ndarray:
    """Return valid pixels (C, n) sampled across a scene of any size.

    Args:
        read: Returns the image (C, h, w) and the valid pixels (h, w) of a window.
        height: Height of the scene in pixels.
        width: Width of the scene in pixels.
    """
    found = []
    for row in np.linspace(0, max(height - SAMPLE_SIDE, 0), SAMPLE_COUNT, dtype=int):
        for col in np.linspace(0, max(width - SAMPLE_SIDE, 0), SAMPLE_COUNT, dtype=int):
            image, valid = read(Window(int(col), int(row), min(SAMPLE_SIDE, width), min(SAMPLE_SIDE, height)))
            found.append(image[:, ::2, ::2][:, valid[::2, ::2]].numpy())  # one pixel in four is enough
    return np.concatenate(found, axis=1)


def scene_header(info: RasterInfo, area: Window | None, gsd_m: float | None) -> RasterInfo:
    """Return the header of a scene that is a part of a file, or has another pixel size.

    Args:
        info: Header of the file.
        area: The part; all by default.
        gsd_m: Pixel size on the ground in metres, along both axes; the file's by default.

    Raises:
        ConfigError: If the area lies outside the file, or the file's pixel size is unknown.
    """
    if area is not None:
        inside = area.col >= 0 and area.row >= 0 and min(area.width, area.height) > 0
        if not inside or area.col + area.width > info.width or area.row + area.height > info.height:
            raise ConfigError(
                f"window={list(area)} does not lie inside {redacted(info.path)}, "
                f"which has {info.width} x {info.height} pixels."
            )
        transform = window_transform(info, area)
        pixel_m = pixel_size(info.crs, transform, area.width, area.height)
        info = replace(info, width=area.width, height=area.height, transform=transform, pixel_m=pixel_m)
    if gsd_m is None:
        return info
    if info.pixel_m is None or info.transform is None or area is not None:
        raise ConfigError(
            f"gsd_m={gsd_m:g}: {redacted(info.path)} must be read whole, and have coordinates that give its pixel size."
        )
    sides = zip((info.width, info.height), info.pixel_m, strict=True)
    width, height = (max(1, round(pixels * size / gsd_m)) for pixels, size in sides)
    scaled = Affine(*info.transform) @ Affine.scale(info.width / width, info.height / height)
    return replace(info, width=width, height=height, transform=tuple(scaled)[:6], pixel_m=(gsd_m, gsd_m))


def cache_bytes(info: RasterInfo, bands: Sequence[int], rows: int) -> int:
    """Return the GDAL cache size in bytes that avoids decoding a block twice within a row of windows."""
    with open_raster(info.path, info.driver) as source:
        height, width = source.block_shapes[0]
        if source.driver == "VRT":  # its blocks are not those of its source files
            return VRT_CACHE_BYTES
        whole = source.width
    if width < whole:
        return CACHE_BYTES
    row = whole * len(bands) * np.dtype(info.dtype).itemsize  # untiled: windows need full scanlines
    return int(max(CACHE_BYTES, row * (rows + 2 * height)))
