"""Measurement of an image, part by part from top to bottom."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from satseg.data.rasters.header import RasterInfo, Window
from satseg.spec import IGNORE_INDEX
from satseg.validate.facts import Borders, Extreme, ImageFacts
from satseg.validate.fingerprints import FingerprintTally
from satseg.validate.landmarks import LandmarkTally
from satseg.validate.similarity import cell_weights

MULTIPLIER, MODULUS = np.uint64(2_654_435_761), np.uint64(2**32)  # Knuth's multiplicative hash scatters neighbours
GRID = 24  # cells per side of a thumbnail
EDGE_DEPTH = 4  # pixels from an edge that are averaged to reduce noise
ROW_STEP = 4  # neighbours are compared in every fourth row
DRAWN_PER_BORDER = 5  # sampled pixels per sampled pair along a border
MIN_REPEATED_SHARE = 0.001  # of a part's pixels; the neighbours of rarer extremes are not searched, to save time


class BorderTally:
    """Sampler of horizontal neighbours with different labels, independent of how an image is divided into parts.

    Args:
        bands: Number of bands.
        dtype: Dtype of the pixels.
        width: Width of the image, in pixels.
        most: Number of pairs to keep.
    """

    def __init__(self, bands: int, dtype: str, width: int, most: int) -> None:
        self.width, self.most = width, most
        self.ranks = np.zeros(0, np.uint64)
        self.numbers, self.classes = np.zeros((bands, 2, 0), dtype), np.zeros((2, 0), np.uint8)

    def add(self, row: int, image: np.ndarray, usable: np.ndarray, classes: np.ndarray) -> None:
        """Add one part.

        Args:
            row: Its first row.
            image: Values (bands, height, width).
            usable: Boolean (height, width).
            classes: Class indices (height, width), IGNORE_INDEX for unlabelled pixels.
        """
        differ = (classes[:, 1:] != classes[:, :-1]) & usable[:, 1:] & usable[:, :-1]
        rows, columns = np.nonzero(differ)
        ranks = ((rows + row) * self.width + columns).astype(np.uint64) * MULTIPLIER % MODULUS
        if len(ranks) > self.most:
            kept = np.argpartition(ranks, self.most)[: self.most]
            rows, columns, ranks = rows[kept], columns[kept], ranks[kept]
        sides = np.stack([columns, columns + 1])
        ranks = np.concatenate([self.ranks, ranks])
        order = np.argsort(ranks, kind="stable")[: self.most]
        self.ranks = ranks[order]
        self.numbers = np.concatenate([self.numbers, image[:, rows, sides]], axis=2)[:, :, order]
        self.classes = np.concatenate([self.classes, classes[rows, sides]], axis=1)[:, order]

    def borders(self) -> Borders:
        """Return the sampled pairs."""
        return Borders(self.numbers, self.classes)


class Extremes:
    """Minimum or maximum of each band, accumulated over the parts of an image.

    Args:
        bands: Number of bands.
        sign: 1 for the maximum, -1 for the minimum.
    """

    def __init__(self, bands: int, sign: int) -> None:
        self.sign = sign
        self.reduce: Callable[..., Any] = np.max if sign > 0 else np.min
        self.found = [Extreme(-sign * np.inf, 0, -sign * np.inf)] * bands

    def add(self, pixels: np.ndarray) -> None:
        """Add the valid pixels (bands, n) of a part; n is at least 1."""
        self.found = [self._merged(old, self._of(band)) for old, band in zip(self.found, pixels, strict=True)]

    def _of(self, band: np.ndarray) -> Extreme:
        value = self.reduce(band)
        is_value = band == value
        number = int(np.count_nonzero(is_value))
        others = band[~is_value] if number >= MIN_REPEATED_SHARE * band.size else band[:0]
        return Extreme(float(value), number, float(self.reduce(others)) if others.size else -self.sign * np.inf)

    def _merged(self, one: Extreme, other: Extreme) -> Extreme:
        outer, inner = (one, other) if (one.value - other.value) * self.sign >= 0 else (other, one)
        number = outer.number + (inner.number if inner.value == outer.value else 0)
        next_values = [outer.next, inner.next if inner.value == outer.value else inner.value]
        return Extreme(outer.value, number, float(self.reduce(next_values)))


class ImageTally:
    """Accumulator of an image's facts over its parts.

    Args:
        info: Header of the image.
        bands: Number of bands that are read.
        drawn: Number of pixels to sample.
    """

    def __init__(self, info: RasterInfo, bands: int, drawn: int, name: str) -> None:
        self.height, self.width = info.height, info.width
        self.digest = hashlib.blake2b(f"{info.dtype} {bands} {info.height} {info.width}".encode(), digest_size=16)
        self.usable = self.nan = self.infinite = self.zero = 0
        self.low, self.high = np.full(bands, np.inf), np.full(bands, -np.inf)
        self.ends = [] if info.dtype == "uint8" else [Extremes(bands, sign) for sign in (-1, 1)]
        self.neighbours = 0
        self.equal, self.stepping = np.zeros(bands), np.zeros(bands)
        self.changes, self.changed = np.zeros(bands), np.zeros(bands)
        self.top = self.bottom = np.zeros((0, info.width), np.float32)
        self.left: list[np.ndarray] = []
        self.right: list[np.ndarray] = []
        self.cells, self.weights = np.zeros((GRID, GRID)), np.zeros((GRID, GRID))
        self.across = cell_weights(info.width, GRID).T
        self.fingerprints = FingerprintTally(info.height, info.width)
        self.landmarks = LandmarkTally(info.height, info.width)
        random = np.random.default_rng(zlib.crc32(name.encode("utf-8", "surrogateescape")))
        self.places = np.unique(random.integers(0, self.height * self.width, drawn))
        self.drawn: list[np.ndarray] = []
        self.classes: list[np.ndarray] = []
        self.borders = BorderTally(bands, info.dtype, info.width, -(-drawn // DRAWN_PER_BORDER))

    def add(self, window: Window, image: np.ndarray, usable: np.ndarray, classes: np.ndarray | None) -> None:
        """Add one part.

        Args:
            window: Its position; parts are as wide as the image.
            image: Values (bands, height, width).
            usable: Boolean (height, width).
            classes: Class indices (height, width), if there is a mask of the same size.
        """
        self.digest.update(np.ascontiguousarray(image).data)
        self.usable += int(np.count_nonzero(usable))
        self.zero += int(np.count_nonzero(~image.any(0)))
        if np.issubdtype(image.dtype, np.floating):
            self.nan += int(np.count_nonzero(np.isnan(image).any(0)))
            self.infinite += int(np.count_nonzero(np.isinf(image).any(0)))
        if usable.any():
            pixels = image.reshape(len(image), -1) if usable.all() else image[:, usable]
            self.low, self.high = np.minimum(self.low, pixels.min(1)), np.maximum(self.high, pixels.max(1))
            for end in self.ends:
                end.add(pixels)
        with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity, and overflow
            self._compare_neighbours(image[:, ::ROW_STEP].astype(np.float32), usable[::ROW_STEP])
            grey = np.where(usable, image.mean(0, dtype=np.float32), np.nan)
        self._add_edges(grey)
        self._add_cells(window, grey)
        self.fingerprints.add(grey)
        self.landmarks.add(grey)
        self._draw(window, image, usable, classes)
        if classes is not None:
            self.borders.add(window.row, image, usable, classes)

    def _compare_neighbours(self, rows: np.ndarray, usable: np.ndarray) -> None:
        steps = np.abs(np.diff(rows, axis=2))
        self.neighbours += steps[0].size
        self.equal += np.count_nonzero(steps == 0, axis=(1, 2))
        self.stepping += np.count_nonzero(steps == 1, axis=(1, 2))
        if not usable.all():  # pixels beside a hole differ from its fill value
            steps[:, ~(usable[:, 1:] & usable[:, :-1])] = 0
        self.changes += steps.sum((1, 2), dtype=np.float64)
        self.changed += np.count_nonzero(steps, axis=(1, 2))

    def _add_edges(self, grey: np.ndarray) -> None:
        self.top = np.concatenate([self.top, grey[: EDGE_DEPTH - len(self.top)]])
        self.bottom = np.concatenate([self.bottom, grey])[-EDGE_DEPTH:]
        self.left.append(grey[:, :EDGE_DEPTH].copy())  # a view would keep the whole part
        self.right.append(grey[:, -EDGE_DEPTH:].copy())

    def _add_cells(self, window: Window, grey: np.ndarray) -> None:
        if min(self.height, self.width) < GRID:
            return
        down = cell_weights(self.height, GRID, pixels=range(window.row, window.row + window.height))
        defined = np.isfinite(grey)
        self.cells += down @ (np.where(defined, grey, 0) @ self.across)
        self.weights += down @ (defined.astype(np.float64) @ self.across)

    def _draw(self, window: Window, image: np.ndarray, usable: np.ndarray, classes: np.ndarray | None) -> None:
        start = window.row * self.width
        first, last = np.searchsorted(self.places, (start, start + usable.size))
        rows, columns = np.divmod(self.places[first:last] - start, self.width)
        kept = usable[rows, columns]
        labels = np.full(len(rows), IGNORE_INDEX, np.uint8) if classes is None else classes[rows, columns]
        if classes is not None:
            kept &= labels != IGNORE_INDEX
        self.drawn.append(image[:, rows[kept], columns[kept]])
        self.classes.append(labels[kept])

    def facts(self) -> ImageFacts:
        """Return the accumulated facts."""
        defined = np.isfinite(self.low)
        mean = self.cells.sum() / max(self.weights.sum(), 1)
        thumbnail = np.where(self.weights > 0, self.cells / np.maximum(self.weights, 1), mean).astype(np.float32)
        return ImageFacts(
            digest=self.digest.hexdigest(),
            usable=self.usable,
            nan=self.nan,
            infinite=self.infinite,
            zero=self.zero,
            minimum=tuple(np.where(defined, self.low, np.nan).tolist()),
            maximum=tuple(np.where(defined, self.high, np.nan).tolist()),
            extremes=tuple(zip(*(end.found for end in self.ends), strict=True)) if self.ends else (),
            flat=tuple((self.equal / max(self.neighbours, 1)).tolist()),
            stepping=tuple((self.stepping / np.maximum(self.neighbours - self.equal, 1)).tolist()),
            change=tuple((self.changes / np.maximum(self.changed, 1)).tolist()),
            edges=tuple(np.stack([side[0], side.mean(0)]) for side in self._sides()),
            thumbnail=thumbnail if min(self.height, self.width) >= GRID else None,
            fingerprints=self.fingerprints.fingerprints(),
            landmarks=self.landmarks.landmarks(),
            drawn=np.concatenate(self.drawn, axis=1),
            classes=np.concatenate(self.classes),
            borders=self.borders.borders(),
        )

    def _sides(self) -> tuple[np.ndarray, ...]:
        """Return the pixels along each side, outermost first."""
        left, right = np.concatenate(self.left).T, np.concatenate(self.right).T
        return self.top, right[::-1], self.bottom[::-1], left
