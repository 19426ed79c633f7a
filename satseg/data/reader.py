"""Reading one sample: image, mask and valid pixels, with the decoded files kept for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from satseg.data.bands import band_numbers
from satseg.data.labels import LabelReader
from satseg.data.pairing import Sample
from satseg.data.raster import RasterInfo, Window, read_image, read_info
from satseg.errors import BandError, DataError
from satseg.spec import IGNORE_INDEX

WHOLE_FILE_PIXELS = 64_000_000  # larger files are read by windows

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass
class SampleReader:
    """Reads samples of a dataset.

    Attributes:
        labels: Reads the masks.
        bands: One-based numbers or names of the bands to read; all by default.
        nodata: Value of missing pixels; each file's own by default.
        cache_gb: Memory for decoded files, in each worker.
    """

    labels: LabelReader
    bands: Sequence[int | str] | None = None
    nodata: float | None = None
    cache_gb: float = 1.0
    like: RasterInfo | None = None  # the first image, whose bands and dtype all others must have
    _cache: OrderedDict[Path, Arrays] = field(default_factory=OrderedDict, repr=False)
    _cached_bytes: int = 0
    _infos: dict[Path, RasterInfo] = field(default_factory=dict, repr=False)

    def info(self, path: Path) -> RasterInfo:
        """Return an image's header, read once."""
        if path not in self._infos:
            self._infos[path] = read_info(path)
        return self._infos[path]

    def area(self, sample: Sample) -> Window:
        """Return the part of its image that a sample is, in pixels."""
        info = self.info(sample.image)
        return sample.window or Window(0, 0, info.width, info.height)

    def size(self, sample: Sample) -> tuple[int, int]:
        """Return the height and width of a sample."""
        area = self.area(sample)
        return area.height, area.width

    def check(self, sample: Sample) -> tuple[int, int]:
        """Compare the headers of image and mask, and return the sample's height and width.

        Raises:
            SizeMismatchError: If image and mask differ in size, and one does not say where it lies.
            BandError: If the image has another number of bands than the rest, or lacks one that is wanted.
            DataError: If it has another dtype: the same scale would not fit both; or if the mask lies elsewhere.
        """
        image = self.info(sample.image)
        self.labels.is_warped(sample.mask, image)
        like = self.like = self.like or image
        band_numbers(image, self.bands)
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
        return self.size(sample)

    def read(self, sample: Sample, window: Window | None = None) -> Arrays:
        """Read a window of a sample; the whole by default.

        Args:
            sample: An image, or a part of one.
            window: In pixels of the sample.

        Returns:
            Image (bands, height, width) as stored, mask uint8 (height, width) of class indices, and the
            boolean array of valid pixels. What lies outside the sample is invalid and ignored.
        """
        area = self.area(sample)
        window = window or Window(0, 0, area.width, area.height)
        left, top = max(window.col, 0), max(window.row, 0)
        right, bottom = min(window.col + window.width, area.width), min(window.row + window.height, area.height)
        if left >= right or top >= bottom:
            inside = _empty(self._inside(sample, Window(area.col, area.row, 1, 1)))
            return _padded(inside, (0, window.height), (0, window.width))
        inside = self._inside(sample, Window(area.col + left, area.row + top, right - left, bottom - top))
        rows = top - window.row, window.row + window.height - bottom
        return _padded(inside, rows, (left - window.col, window.col + window.width - right))

    def _inside(self, sample: Sample, window: Window) -> Arrays:
        """Read a window that lies inside the image."""
        info = self.info(sample.image)
        if info.width * info.height > WHOLE_FILE_PIXELS:
            return self._read(sample, window)
        image, mask, valid = self._whole(sample)
        rows, cols = slice(window.row, window.row + window.height), slice(window.col, window.col + window.width)
        return image[:, rows, cols], mask[rows, cols], valid[rows, cols]

    def _read(self, sample: Sample, window: Window | None = None) -> Arrays:
        info = self.info(sample.image)
        image, valid = read_image(sample.image, window, band_numbers(info, self.bands), self.nodata)
        return image, self.labels.read(sample.mask, info, window), valid

    def _whole(self, sample: Sample) -> Arrays:
        """Return the whole image that a sample is, or is a part of."""
        if sample.image in self._cache:
            self._cache.move_to_end(sample.image)
            return self._cache[sample.image]
        self.check(sample)
        arrays = self._read(sample)
        self._remember(sample.image, arrays)
        return arrays

    def _remember(self, image: Path, arrays: Arrays) -> None:
        self._cache[image] = arrays
        self._cached_bytes += sum(a.nbytes for a in arrays)
        while self._cached_bytes > self.cache_gb * 1e9 and self._cache:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= sum(a.nbytes for a in dropped)


def _empty(arrays: Arrays) -> Arrays:
    image, mask, valid = arrays
    return image[:, :0, :0], mask[:0, :0], valid[:0, :0]


def _padded(arrays: Arrays, rows: tuple[int, int], cols: tuple[int, int]) -> Arrays:
    """Add pixels around arrays that are 0, ignored and invalid."""
    if not any(rows + cols):
        return arrays
    image, mask, valid = arrays
    return (
        np.pad(image, ((0, 0), rows, cols)),
        np.pad(mask, (rows, cols), constant_values=IGNORE_INDEX),
        np.pad(valid, (rows, cols)),
    )
