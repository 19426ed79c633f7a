"""Reading one sample: image, mask and valid pixels, with the decoded files kept for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from satseg.data.masks import ClassScheme
from satseg.data.pairing import Sample
from satseg.data.raster import RasterInfo, Window, read_image, read_info
from satseg.errors import BandError, DataError, SizeMismatchError
from satseg.spec import IGNORE_INDEX

WHOLE_FILE_PIXELS = 64_000_000  # larger files are read by windows

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass
class SampleReader:
    """Reads samples of a dataset.

    Attributes:
        scheme: What the masks' values mean.
        bands: One-based numbers of the bands to read; all by default.
        nodata: Value of missing pixels; each file's own by default.
        cache_gb: Memory for decoded files, in each worker.
    """

    scheme: ClassScheme
    bands: Sequence[int] | None = None
    nodata: float | None = None
    cache_gb: float = 1.0
    like: RasterInfo | None = None  # the first image, whose bands and dtype all others must have
    _cache: OrderedDict[str, Arrays] = field(default_factory=OrderedDict, repr=False)
    _cached_bytes: int = 0
    _infos: dict[Path, RasterInfo] = field(default_factory=dict, repr=False)

    def info(self, path: Path) -> RasterInfo:
        """Return an image's header, read once."""
        if path not in self._infos:
            self._infos[path] = read_info(path)
        return self._infos[path]

    def check(self, sample: Sample) -> tuple[int, int]:
        """Compare the headers of image and mask, and return their height and width.

        Raises:
            SizeMismatchError: If image and mask differ in size.
            BandError: If the image has another number of bands than the rest.
            DataError: If it has another dtype: the same scale would not fit both.
        """
        image, mask = self.info(sample.image), read_info(sample.mask)
        if (image.width, image.height) != (mask.width, mask.height):
            raise SizeMismatchError(
                f"{sample.image} is {image.width}x{image.height} pixels, but its mask {sample.mask} is "
                f"{mask.width}x{mask.height}: cut or resample one of them so that they cover the same pixels."
            )
        like = self.like = self.like or image
        if self.bands is None and image.count != like.count:
            raise BandError(
                f"{sample.image} has {image.count} bands, but the images before it have {like.count}: set "
                "dataset.bands to those that all have, such as [1, 2, 3]."
            )
        if image.dtype != like.dtype:
            raise DataError(
                f"{sample.image} is {image.dtype}, but the images before it are {like.dtype}: convert them to "
                "one of the two, so that their numbers mean the same."
            )
        return image.height, image.width

    def read(self, sample: Sample, window: Window | None = None) -> Arrays:
        """Read a window of a sample; the whole by default.

        Returns:
            Image (bands, height, width) as stored, mask uint8 (height, width) of class indices, and the
            boolean array of valid pixels. What lies outside the image is invalid and ignored.
        """
        info = self.info(sample.image)
        if info.width * info.height > WHOLE_FILE_PIXELS:
            image, valid = read_image(sample.image, window, self.bands, self.nodata)
            return image, self.scheme.read(sample.mask, window), valid
        whole = self._whole(sample)
        return whole if window is None else _cut(whole, window)

    def _whole(self, sample: Sample) -> Arrays:
        if sample.name in self._cache:
            self._cache.move_to_end(sample.name)
            return self._cache[sample.name]
        self.check(sample)
        image, valid = read_image(sample.image, None, self.bands, self.nodata)
        arrays = (image, self.scheme.read(sample.mask), valid)
        self._remember(sample.name, arrays)
        return arrays

    def _remember(self, name: str, arrays: Arrays) -> None:
        self._cache[name] = arrays
        self._cached_bytes += sum(a.nbytes for a in arrays)
        while self._cached_bytes > self.cache_gb * 1e9 and self._cache:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= sum(a.nbytes for a in dropped)


def _cut(arrays: Arrays, window: Window) -> Arrays:
    """Cut a window out of whole arrays; beyond their edges pixels are 0, ignored and invalid."""
    image, mask, valid = arrays
    height, width = mask.shape
    top, left = max(window.row, 0), max(window.col, 0)
    bottom, right = min(window.row + window.height, height), min(window.col + window.width, width)
    image, mask, valid = image[:, top:bottom, left:right], mask[top:bottom, left:right], valid[top:bottom, left:right]
    if mask.shape == (window.height, window.width):
        return image, mask, valid
    rows = (top - window.row, window.row + window.height - bottom)
    cols = (left - window.col, window.col + window.width - right)
    return (
        np.pad(image, ((0, 0), rows, cols)),
        np.pad(mask, (rows, cols), constant_values=IGNORE_INDEX),
        np.pad(valid, (rows, cols)),
    )
