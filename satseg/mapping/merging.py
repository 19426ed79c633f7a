"""Merging of polygon pieces across block borders, with each polygon returned as soon as it is complete."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from satseg.data.rasters.header import Window
from satseg.mapping.polygons import Pieces


@dataclass
class _Area:
    """An incomplete area.

    Attributes:
        value: Its class.
        area: Area of its pixels.
        pieces: Polygons without holes.
        holes: Rings, as vertices (N, 2) and the number of vertices of each ring. A hole in a piece lies inside its
            block, so it is a hole of the whole area and needs no merging: a background may have a million.
        names: Numbers of the pieces.
        pending: Number of border pixels that continue in a block not yet added.
    """

    value: int
    area: float
    pieces: list[shapely.Polygon]
    holes: list[tuple[np.ndarray, np.ndarray]]
    names: list[int]
    pending: int

    @classmethod
    def of(cls, pieces: Pieces, index: int, name: int, pending: int) -> _Area:
        """Return the area of a first piece."""
        polygon = pieces.polygons[index]
        points, sizes = _rings(polygon)
        outer = shapely.polygons(points[: sizes[0]])
        inner = points[sizes[0] :].astype(np.int32), sizes[1:]  # pixel corners, integers
        holes = [inner] if len(sizes) > 1 else []
        return cls(int(pieces.values[index]), float(pieces.areas[index]), [outer], holes, [name], pending)

    def polygon(self) -> shapely.Polygon:
        """Return the merged polygon."""
        merged = shapely.get_geometry(shapely.coverage_union_all(self.pieces), 0)
        if not self.holes:
            return merged
        points, sizes = zip(_rings(merged), *self.holes, strict=True)
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
        kind, vertices = shapely.GeometryType.POLYGON, np.concatenate(points, dtype=float)
        return shapely.from_ragged_array(kind, vertices, (offsets, np.array([0, len(offsets) - 1])))[0]


def _rings(polygon: shapely.Polygon) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices of all rings, exterior first, and the number of vertices of each ring."""
    _, points, (offsets, _) = shapely.to_ragged_array([polygon])
    return points, np.diff(offsets)


class Merger:
    """Merger of polygon pieces from blocks that are added row by row.

    Only areas that continue in later blocks are kept, so memory is proportional to the border between processed and
    remaining blocks.
    """

    def __init__(self, width: int) -> None:
        """Create a merger for a map of `width` pixels."""
        self._areas: dict[int, _Area] = {}
        self._count = 0
        # Per pixel: the piece that continues below, and to the right of, the processed blocks; 0 for none.
        self._below = np.zeros(width, np.int64)
        self._beside = np.zeros(0, np.int64)

    @property
    def num_open(self) -> int:
        """Number of incomplete areas."""
        return len({id(area) for area in self._areas.values()})

    def add(self, pieces: Pieces, classes: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Add the pieces of a block.

        Args:
            pieces: Pieces of the block.
            classes: As in `polygons.cut`: the block with a margin of one pixel.
            window: Position of the block.

        Returns:
            The completed polygons, with the class and the pixel area of each.
        """
        lowest = self._count + 1
        self._count += len(pieces.polygons)
        labels = np.where(pieces.labels, pieces.labels + np.int64(lowest - 1), 0)
        pairs, lengths = np.unique(self._links(labels, window), axis=0, return_counts=True)
        open_labels = self._store_borders(labels, classes, window)
        pending = np.bincount(open_labels - lowest, minlength=len(pieces.polygons))
        shared = pending > 0
        shared[pairs[:, 1] - lowest] = True
        for index in np.flatnonzero(shared).tolist():
            name = lowest + index
            self._areas[name] = _Area.of(pieces, index, name, int(pending[index]))
        complete = self._link(pairs, lengths)
        polygons = np.concatenate([pieces.polygons[~shared], np.array([area.polygon() for area in complete], object)])
        values = np.concatenate([pieces.values[~shared], np.array([area.value for area in complete], np.int16)])
        return polygons, values, np.concatenate([pieces.areas[~shared], [area.area for area in complete]])

    def _links(self, labels: np.ndarray, window: Window) -> np.ndarray:
        """Return pairs of connected pieces in earlier blocks and this one; one pair per border pixel."""
        above = np.stack([self._below[_columns(window)], labels[0]], axis=1)
        before = np.stack([self._beside, labels[:, 0]], axis=1) if window.col else above[:0]
        pairs = np.concatenate([above, before])
        return pairs[pairs[:, 0] > 0]

    def _store_borders(self, labels: np.ndarray, classes: np.ndarray, window: Window) -> np.ndarray:
        """Store where pieces continue below and to the right; return these pieces, one per border pixel."""
        below = np.where(classes[-2, 1:-1] == classes[-1, 1:-1], labels[-1], 0)
        self._below[_columns(window)] = below
        self._beside = np.where(classes[1:-1, -2] == classes[1:-1, -1], labels[:, -1], 0)
        open_labels = np.concatenate([below, self._beside])
        return open_labels[open_labels > 0]

    def _link(self, pairs: np.ndarray, lengths: np.ndarray) -> list[_Area]:
        """Merge the areas of connected pieces; return those that are complete."""
        touched = {}
        for (first, second), length in zip(pairs.tolist(), lengths.tolist(), strict=True):
            area = self._merge(self._areas[first], self._areas[second])
            area.pending -= length
            touched[id(area)] = area
        complete = [area for area in touched.values() if area.names and not area.pending]
        for area in complete:
            for name in area.names:
                del self._areas[name]
        return complete

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
