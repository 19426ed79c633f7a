"""Working rasters that are written block by block, then converted to cloud-optimised GeoTIFFs."""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.windows import Window

from satseg.data.rasters.header import RasterInfo
from satseg.data.rasters.opening import quiet
from satseg.inference.products import Product
from satseg.mapping.classmap import TAG
from satseg.spec import DatasetSpec

BLOCK = 512
WORK_TAG = "SATSEG_WORK"


class WorkRaster:
    """An uncompressed product of a scene, so that any part of it can be rewritten in place.

    Args:
        folder: Folder of the file.
        product: The product.
        scene: Header of the scene, for size and georeference.
        spec: The model's classes and colours.
        work: Hash of everything that it depends on, which identifies a finished one.
    """

    def __init__(self, folder: Path, product: Product, scene: RasterInfo, spec: DatasetSpec, work: str) -> None:
        self._work = work
        self.path = folder / f"{product.name or 'map'}.tif"
        self.product, self._scene, self._spec = product, scene, spec
        self._target: Any = None

    @property
    def num_bytes(self) -> int:
        """Size on disk."""
        pixels = self._scene.width * self._scene.height * len(self.product.band_names)
        return pixels * np.dtype(self.product.dtype).itemsize

    def create(self) -> None:
        """Create the file at its full size."""
        with _new(self.path, self.product, self._scene, self._spec) as target:
            target.update_tags(**{WORK_TAG: self._work})
        if self.path.stat().st_size < self.num_bytes:  # GDAL does not always report that the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open(self) -> None:
        """Open the file for writing."""
        with quiet():
            self._target = rasterio.open(self.path, "r+")

    def write(self, row: int, col: int, array: np.ndarray) -> None:
        """Write a block (bands, h, w) whose upper left pixel is (row, col)."""
        _, height, width = array.shape
        self._target.write(array, window=Window(col, row, width, height))

    def close(self) -> None:
        """Close the file and flush it to the disk."""
        if self._target is None:
            return
        self._target.close()
        self._target = None
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def finish(self, overviews: str) -> Path:
        """Write the cloud-optimised GeoTIFF beside the working file.

        Args:
            overviews: Resampling of classes for overviews, `mode` or `nearest`; probabilities are averaged.
        """
        resampling = overviews if self.product.name == "" else "average"
        options: dict[str, Any] = {"compress": "DEFLATE", "blocksize": BLOCK, "bigtiff": "IF_SAFER"}
        options |= {"overview_resampling": resampling.upper(), "num_threads": "ALL_CPUS"}
        path = self.path.with_name(f"{self.path.stem}_finished.tif")
        _mute_libtiff()
        with quiet():
            rasterio.shutil.copy(self.path, path, driver="COG", **options)
            _check(path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return path


@cache
def _mute_libtiff() -> None:
    """Keep libtiff from printing to stderr when a disk is full; GDAL reports the error anyway."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:  # not Linux
        return
    paths = {line.split(maxsplit=5)[5] for line in lines if "/libtiff" in line}
    for path in paths:  # rasterio's own and those of other packages
        with suppress(OSError, AttributeError):
            ctypes.CDLL(path).TIFFSetErrorHandler(None)


@contextmanager
def _new(path: Path, product: Product, scene: RasterInfo, spec: DatasetSpec, **options: Any) -> Iterator[Any]:
    """Create a file for a product, with its metadata and georeference."""
    profile: dict[str, Any] = {"driver": "GTiff", "width": scene.width, "height": scene.height}
    profile |= {"count": len(product.band_names), "dtype": product.dtype, "nodata": product.nodata}
    profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "bigtiff": "if_safer"}
    profile |= {"photometric": "minisblack", "interleave": "band", "crs": scene.crs}
    if scene.transform is not None:
        profile["transform"] = rasterio.Affine(*scene.transform)
    with quiet(), rasterio.open(path, "w", **profile | options) as target:
        for number, name in enumerate(product.band_names, 1):
            target.set_band_description(number, name)
        if product.map_values is not None:
            if product.map_values.has_palette:
                colours = zip(product.map_values.values, spec.palette, strict=True)
                target.write_colormap(1, {value: (*rgb, 255) for value, rgb in colours})
            names = dict(zip(product.map_values.values, spec.class_names, strict=True))
            target.update_tags(**{TAG: json.dumps(names, ensure_ascii=False)})
        elif product.scale != 1.0:
            target.scales = [product.scale] * target.count
        yield target


def write_product(path: Path, array: np.ndarray, product: Product, scene: RasterInfo, spec: DatasetSpec) -> None:
    """Write a product (bands, h, w) that fits in memory as a compressed GeoTIFF.

    Args:
        path: Output file.
        array: Values of the product.
        product: The product.
        scene: Header of the scene, for size and georeference.
        spec: The model's classes and colours.
    """
    with _new(path, product, scene, spec, compress="deflate", zlevel=1) as target:  # a user is waiting
        target.write(array)


def _check(path: Path) -> None:
    """Read the last block and the smallest overview, which a full disk would have truncated."""
    with rasterio.open(path) as source:
        source.read(1, window=Window(source.width - 1, source.height - 1, 1, 1))
        source.read(1, out_shape=(1, 1))


def is_finished(path: Path, work: str) -> bool:
    """Return whether a file is the finished result with this hash."""
    try:
        with quiet(), rasterio.open(path) as source:
            return bool(source.tags().get(WORK_TAG) == work)
    except RasterioError:  # missing, or not a raster
        return False
