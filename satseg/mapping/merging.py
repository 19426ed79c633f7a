"""Joining the pieces of polygons across the borders of blocks, and letting go of each as soon as it is whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from satseg.data.rasters.header import Window
from satseg.mapping.polygons import Pieces


@dataclass
class _Area:
    """An area whose pieces are not all known yet.

    Attributes:
        value: Its class.
        area: Of its pixels.
        pieces: Polygons without holes.
        holes: Rings, as corners (N, 2) and the number of each ring's. A hole of a piece lies inside of its block, so it
            is one of the whole area, and need not be joined: a background may have a million.
        names: Of the pieces.
        pending: Pixels of its border that wait for the block beyond.
    """

    value: int
    area: float
    pieces: list[shapely.Polygon]
    holes: list[tuple[np.ndarray, np.ndarray]]
    names: list[int]
    pending: int

    @classmethod
    def of(cls, pieces: Pieces, index: int, name: int, pending: int) -> _Area:
        """Begin with a piece."""
        polygon = pieces.polygons[index]
        points, sizes = _rings(polygon)
        outer = shapely.polygons(points[: sizes[0]])
        inner = points[sizes[0] :].astype(np.int32), sizes[1:]  # corners of pixels, whole numbers
        holes = [inner] if len(sizes) > 1 else []
        return cls(int(pieces.values[index]), float(pieces.areas[index]), [outer], holes, [name], pending)

    def whole(self) -> shapely.Polygon:
        """Return all of it."""
        joined = shapely.get_geometry(shapely.coverage_union_all(self.pieces), 0)
        if not self.holes:
            return joined
        points, sizes = zip(_rings(joined), *self.holes, strict=True)
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
        kind, whole = shapely.GeometryType.POLYGON, np.concatenate(points, dtype=float)
        return shapely.from_ragged_array(kind, whole, (offsets, np.array([0, len(offsets) - 1])))[0]


def _rings(polygon: shapely.Polygon) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of all rings, the outer first, and the number of each ring's."""
    _, points, (offsets, _) = shapely.to_ragged_array([polygon])
    return points, np.diff(offsets)


class Merger:
    """Takes blocks row by row and gives back whole polygons.

    Only areas that go on in a block still to come are kept, so memory follows the length of the border between what is
    done and what is not.
    """

    def __init__(self, width: int) -> None:
        """Start at a map's upper left corner; `width` is the map's, in pixels."""
        self._areas: dict[int, _Area] = {}
        self._count = 0
        # Per pixel: the piece that goes on below, and to the right, of what is done; 0 for none.
        self._below = np.zeros(width, np.int64)
        self._beside = np.zeros(0, np.int64)

    @property
    def num_open(self) -> int:
        """How many areas are not whole yet."""
        return len({id(area) for area in self._areas.values()})

    def add(self, pieces: Pieces, classes: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Add a block's pieces.

        Args:
            pieces: Of the block.
            classes: As in `polygons.cut`: the block and one pixel around it.
            window: Where the block lies.

        Returns:
            The polygons that have become whole, the class of each, and the area of its pixels.
        """
        lowest = self._count + 1
        self._count += len(pieces.polygons)
        labels = np.where(pieces.labels, pieces.labels + np.int64(lowest - 1), 0)
        pairs, lengths = np.unique(self._links(labels, window), axis=0, return_counts=True)
        waiting = self._leave(labels, classes, window)
        pending = np.bincount(waiting - lowest, minlength=len(pieces.polygons))
        shared = pending > 0
        shared[pairs[:, 1] - lowest] = True
        for index in np.flatnonzero(shared).tolist():
            name = lowest + index
            self._areas[name] = _Area.of(pieces, index, name, int(pending[index]))
        whole = self._join(pairs, lengths)
        polygons = np.concatenate([pieces.polygons[~shared], np.array([area.whole() for area in whole], object)])
        values = np.concatenate([pieces.values[~shared], np.array([area.value for area in whole], np.int16)])
        return polygons, values, np.concatenate([pieces.areas[~shared], [area.area for area in whole]])

    def _links(self, labels: np.ndarray, window: Window) -> np.ndarray:
        """Return pairs of pieces, before and in this block, that go on in each other; one for each pixel."""
        above = np.stack([self._below[_columns(window)], labels[0]], axis=1)
        before = np.stack([self._beside, labels[:, 0]], axis=1) if window.col else above[:0]
        pairs = np.concatenate([above, before])
        return pairs[pairs[:, 0] > 0]

    def _leave(self, labels: np.ndarray, classes: np.ndarray, window: Window) -> np.ndarray:
        """Note where pieces go on below and to the right; return them, one for each pixel of the border."""
        below = np.where(classes[-2, 1:-1] == classes[-1, 1:-1], labels[-1], 0)
        self._below[_columns(window)] = below
        self._beside = np.where(classes[1:-1, -2] == classes[1:-1, -1], labels[:, -1], 0)
        waiting = np.concatenate([below, self._beside])
        return waiting[waiting > 0]

    def _join(self, pairs: np.ndarray, lengths: np.ndarray) -> list[_Area]:
        touched = {}
        for (first, second), length in zip(pairs.tolist(), lengths.tolist(), strict=True):
            area = self._merge(self._areas[first], self._areas[second])
            area.pending -= length
            touched[id(area)] = area
        whole = [area for area in touched.values() if area.names and not area.pending]
        for area in whole:
            for name in area.names:
                del self._areas[name]
        return whole

    def _merge(self, first: _Area, second: _Area) -> _Area:
        if first is second:
            return first
        large, small = (first, second) if len(first.names) >= len(second.names) else (second, first)
        for name in small.names:
            self._areas[name] = large
        large.area += small.area
        large.pieces += small.pieces
        large.holes += small.holes
        large.names += small.names
        large.pending += small.pending
        small.names = []
        return large


def _columns(window: Window) -> slice:
    return slice(window.col, window.col + window.width)
