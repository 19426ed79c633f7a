"""Statistics of the training split, computed tile by tile in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from satseg.data.rasters.header import Window
from satseg.data.reader import SampleReader
from satseg.data.samples import Sample
from satseg.errors import DataError
from satseg.spec import BandStatistics

MAX_IMAGES = 1000  # that are read of very large datasets
PIXELS_PER_IMAGE = 20_000  # sampled for the percentiles
MAX_PIXELS = 4_000_000  # sampled from all images together
TILE = 1024
MASK_TILE = 8192


def compute_statistics(
    samples: Sequence[Sample], reader: SampleReader, num_classes: int
) -> tuple[BandStatistics, np.ndarray]:
    """Compute statistics of bands and classes over valid pixels.

    Args:
        samples: The training split; if it exceeds MAX_IMAGES, an even selection is read.
        reader: Reader of the samples.
        num_classes: Length of the counts.

    Returns:
        Per-band statistics in raw units, and int64 pixel counts by class.

    Raises:
        DataError: If no valid pixel is labelled.
    """
    chosen = [
        samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, min(len(samples), MAX_IMAGES)).astype(int))
    ]
    counts, bands = np.zeros(num_classes, np.int64), _Bands()
    limit = min(PIXELS_PER_IMAGE, MAX_PIXELS // len(chosen))
    for sample in chosen:
        height, width = reader.size(sample)
        for window in tiles(height, width, TILE):
            image, mask, valid = reader.read(sample, window)
            counts += np.bincount(mask[valid], minlength=256)[:num_classes]
            bands.add(image[:, valid], max(1, limit * window.width * window.height // (height * width)))
    if counts.sum() == 0:
        raise DataError("The training images have no labelled pixel that is not nodata.")
    return bands.summary(), counts


def tiles(height: int, width: int, edge: int) -> Iterator[Window]:
    """Yield the windows that tile an image, row by row; the last ones are smaller."""
    for row in range(0, height, edge):
        for col in range(0, width, edge):
            yield Window(col, row, min(edge, width - col), min(edge, height - row))


@dataclass
class _Bands:
    """Per-band statistics, accumulated over parts."""

    counts: list[int] = field(default_factory=list)
    parts: list[np.ndarray] = field(default_factory=list)  # minimum, maximum, mean, variance (4, bands)
    kept: list[np.ndarray] = field(default_factory=list)

    def add(self, pixels: np.ndarray, keep: int) -> None:
        """Add pixels (bands, N), and keep about `keep` of them for the percentiles."""
        if pixels.shape[1] == 0:
            return
        moments = [(b.min(), b.max(), b.mean(dtype=np.float64), b.astype(np.float64).var()) for b in pixels]
        self.counts.append(pixels.shape[1])
        self.parts.append(np.array(moments, np.float64).T)
        self.kept.append(pixels[:, :: max(1, pixels.shape[1] // keep)].copy())

    def summary(self) -> BandStatistics:
        weights = np.array(self.counts, float) / sum(self.counts)
        minimum, maximum, means, variances = np.stack(self.parts, axis=1)
        mean = weights @ means
        variance = weights @ (variances + (means - mean) ** 2)
        low, high = np.percentile(np.concatenate(self.kept, axis=1), (2, 98), axis=1)
        numbers = (minimum.min(0), maximum.max(0), mean, np.sqrt(variance), low, high)
        return BandStatistics(*(tuple(float(v) for v in n) for n in numbers))


def mask_tiles(sample: Sample, reader: SampleReader) -> Iterator[tuple[Window, np.ndarray]]:
    """Yield the labels of a sample in tiles, without reading the image, so its nodata is not excluded."""
    area, info = reader.area(sample), reader.info(sample.image)
    for window in tiles(area.height, area.width, MASK_TILE):
        part = Window(area.col + window.col, area.row + window.row, window.width, window.height)
        yield window, reader.labels.read(sample.mask, info, part)


def count_classes(sample: Sample, reader: SampleReader) -> np.ndarray:
    """Return the pixels (K,) of each class in a sample's mask."""
    num_classes = len(reader.labels.scheme.names)
    counts = np.zeros(num_classes, np.int64)
    for _, mask in mask_tiles(sample, reader):
        counts += np.bincount(mask.ravel(), minlength=256)[:num_classes]
    return counts
