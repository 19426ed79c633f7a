"""Reading samples: image, mask and valid pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from satseg.data.fingerprints import FileStates
from satseg.data.labels.reader import LabelReader
from satseg.data.rasters.bands import band_numbers
from satseg.data.rasters.decoded import Arrays, DecodedImageCache
from satseg.data.rasters.header import RasterInfo, Window, read_real_info
from satseg.data.rasters.opening import OpenRasters, bounded_cache
from satseg.data.rasters.raster import read_image
from satseg.data.samples import Sample
from satseg.errors import BandError, DataError
from satseg.spec import IGNORE_INDEX

WHOLE_FILE_PIXELS = 64_000_000  # larger files are always read in windows


@dataclass
class SampleReader:
    """Reader of a dataset's samples.

    Attributes:
        labels: Reader of the masks.
        bands: One-based numbers or names of the bands to read; all by default.
        nodata: Value of missing pixels; each file's own by default.
        reference: The first image, whose bands and dtype all others must have.
        files: Open image files.
        decoded: Cache of decoded images; see `cache_decoded`.
        states: States of the files when they were checked.
    """

    labels: LabelReader
    bands: Sequence[int | str] | None = None
    nodata: float | None = None
    reference: RasterInfo | None = None
    files: OpenRasters = field(default_factory=OpenRasters, repr=False)
    decoded: DecodedImageCache | None = field(default=None, repr=False)
    states: FileStates = field(default_factory=FileStates, repr=False)
    _infos: dict[Path, RasterInfo] = field(default_factory=dict, repr=False)

    def info(self, path: Path) -> RasterInfo:
        """Return an image's header, read once."""
        if path not in self._infos:
            self._infos[path] = read_real_info(path)
        return self._infos[path]

    def area(self, sample: Sample) -> Window:
        """Return the window of the image that a sample covers, in pixels."""
        info = self.info(sample.image)
        return sample.window or Window(0, 0, info.width, info.height)

    def size(self, sample: Sample) -> tuple[int, int]:
        """Return the height and width of a sample in pixels."""
        area = self.area(sample)
        return area.height, area.width

    def check(self, sample: Sample) -> tuple[int, int]:
        """Compare the headers of image and mask, and return the sample's height and width.

        Raises:
            SizeMismatchError: If image and mask differ in size and one has no georeference.
            BandError: If the image differs from the others in its number of bands, or lacks a requested band.
            DataError: If its dtype differs, so that one scale would not fit both; or if the mask lies elsewhere.
        """
        self.states.note(sample)
        image = self.info(sample.image)
        self.labels.is_warped(sample.mask, image)
        reference = self.reference = self.reference or image
        dtype = image.dtype_of(band_numbers(image, self.bands))
        expected = reference.dtype_of(band_numbers(reference, self.bands))
        if self.bands is None and image.count != reference.count:
            raise BandError(
                f"{sample.image} has {image.count} bands, but the images before it have {reference.count}: set "
                "dataset.bands to those that all have, such as [1, 2, 3]."
            )
        if dtype != expected:
            raise DataError(
                f"{sample.image} is {dtype}, but the images before it are {expected}: convert them to "
                "one of the two, so that their numbers mean the same."
            )
        return self.size(sample)

    def cache_decoded(self, samples: Iterable[Sample], cache_gb: float) -> None:
        """Decode images once, as far as the memory allows; the others are read in windows.

        Raises:
            ConfigError: If that much memory is not available.
        """
        infos = {s.image: self.info(s.image) for s in samples}
        bands = {image: band_numbers(info, self.bands) for image, info in infos.items()}
        forms = {
            image: ((len(bands[image]), info.height, info.width), info.dtype_of(bands[image]))
            for image, info in infos.items()
            if info.width * info.height <= WHOLE_FILE_PIXELS
        }
        self.decoded = DecodedImageCache(forms, round(cache_gb * 1e9))

    def read(self, sample: Sample, window: Window | None = None) -> Arrays:
        """Read a window of a sample, by default all of it.

        Args:
            sample: An image, or a part of one.
            window: In pixels of the sample.

        Returns:
            Image (bands, height, width) as stored, mask uint8 (height, width) of class indices, and the
            boolean array of valid pixels. Pixels outside the sample are invalid and ignored.

        Raises:
            DataChangedError: If a file is missing, or has changed since it was checked.
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
        whole = self._whole(sample)
        if whole is None:
            return self._read(sample, window)
        image, mask, valid = whole
        rows, cols = slice(window.row, window.row + window.height), slice(window.col, window.col + window.width)
        return image[:, rows, cols], mask[rows, cols], valid[rows, cols]

    def _whole(self, sample: Sample) -> Arrays | None:
        """Return the whole decoded image of a sample if it has a place in the cache."""
        if self.decoded is None or sample.image not in self.decoded:
            return None
        arrays = self.decoded.get(sample.image)
        if arrays is None:
            arrays = self._read(sample)
            self.decoded.put(sample.image, arrays)
        return arrays

    def _read(self, sample: Sample, window: Window | None = None) -> Arrays:
        info = self.info(sample.image)
        bands = band_numbers(info, self.bands)
        with self.states.unchanged(sample), bounded_cache():
            image, valid = read_image(sample.image, window, bands, self.nodata, opener=self.files.open, info=info)
            return image, self.labels.read(sample.mask, info, window), valid


def _empty(arrays: Arrays) -> Arrays:
    image, mask, valid = arrays
    return image[:, :0, :0], mask[:0, :0], valid[:0, :0]


def _padded(arrays: Arrays, rows: tuple[int, int], cols: tuple[int, int]) -> Arrays:
    """Pad arrays with pixels that are 0, ignored and invalid."""
    if not any(rows + cols):
        return arrays
    image, mask, valid = arrays
    return (
        np.pad(image, ((0, 0), rows, cols)),
        np.pad(mask, (rows, cols), constant_values=IGNORE_INDEX),
        np.pad(valid, (rows, cols)),
    )
