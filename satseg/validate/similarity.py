"""Search for similar rows of numbers, exhaustively or with an approximate index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

ROWS_PER_CHUNK = 1024  # in an exhaustive search
PLANES = 32  # per ordering: bits of a key
CHUNK = 2**14  # rows at a time in an indexed search


def cell_weights(size: int, cells: int, zoom: float = 1.0, pixels: range | None = None) -> np.ndarray:
    """Return the weights of pixels in cells of equal size that cover the central 1 / zoom of a side.

    Args:
        size: Side length in pixels.
        cells: Number of cells.
        zoom: Enlargement of the centre.
        pixels: The requested pixels; all by default.

    Returns:
        Weights (cells, pixels), float64.
    """
    step = size / zoom / cells
    borders = (size - size / zoom) / 2 + np.arange(cells + 1) * step
    starts = np.asarray(range(size) if pixels is None else pixels)
    covered = np.minimum(borders[1:, None], starts + 1) - np.maximum(borders[:-1, None], starts)
    shares: np.ndarray = np.clip(covered, 0, None) / step
    return shares


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, length) scaled to norm 1, as float32; zero rows stay 0."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: np.ndarray = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def correlated_pairs(one: np.ndarray, other: np.ndarray, least: float) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of rows whose correlation is at least `least`.

    Args:
        one: Rows of norm 1 (n, length).
        other: Rows of norm 1 (m, length).
        least: Lowest correlation.

    Yields:
        Index in `one`, index in `other`, correlation.
    """
    for start in range(0, len(one), ROWS_PER_CHUNK):
        found = one[start : start + ROWS_PER_CHUNK] @ other.T
        for row, column in zip(*np.nonzero(found >= least), strict=True):
            yield start + int(row), int(column), float(found[row, column])


class NeighbourIndex:
    """Approximate index of nearest neighbours.

    Rows are sorted by the side of some planes on which they lie, and each is compared with the few next to it, in
    several orderings. The time grows with the number of rows, and content that many rows share, such as a pattern,
    costs no more. Method: Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.

    Args:
        rows: Rows (n, length), int8 or float32.
        orders: Number of orderings; more of them miss fewer neighbours.
        nearest: Number of rows compared on each side of a position.
    """

    def __init__(self, rows: np.ndarray, orders: int, nearest: int) -> None:
        self.rows, self.nearest = rows, nearest
        random = np.random.default_rng(0)
        self.centre = rows.mean(0, dtype=np.float64).astype(np.float32) if len(rows) else np.float32(0)
        spread = np.maximum(rows.std(0, dtype=np.float64), 1e-6) if len(rows) else np.ones(rows.shape[1])
        self.planes = [(random.normal(size=(PLANES, len(spread))) / spread).T.astype(np.float32) for _ in range(orders)]
        self.orders = [(keys[order], order.astype(np.int32)) for keys, order in map(_sorted, self._keys(rows))]

    def query(self, rows: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Return indices of rows (m, length) and of indexed rows that are less than `reach` apart, each pair once."""
        found = [np.zeros(0, np.int64)]
        for (keys, order), query_keys in zip(self.orders, self._keys(rows), strict=True):
            by_key = np.argsort(query_keys)
            for start in range(0, len(rows) if len(keys) else 0, CHUNK):
                first = by_key[start : start + CHUNK]
                centre = np.searchsorted(keys, query_keys[first])
                around = centre[:, None] + np.arange(-self.nearest, self.nearest)
                second = order[np.clip(around, 0, len(order) - 1)]
                apart = self.rows[second].astype(np.float32) - rows[first, None].astype(np.float32)
                is_near = np.einsum("ijk,ijk->ij", apart, apart) < reach**2
                found.append((first[:, None] * len(order) + second)[is_near])
        pairs = np.sort(np.concatenate(found))
        first, second = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], max(len(self.rows), 1))
        return first, second

    def _keys(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return a key of each row for each ordering: each bit is the side of a plane."""
        keys = [np.empty(len(rows), np.uint32) for _ in self.planes]
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK] - self.centre
            for key, planes in zip(keys, self.planes, strict=True):
                key[start : start + CHUNK] = np.packbits(part @ planes > 0, axis=1).view(">u4")[:, 0]
        return keys


def _sorted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return keys, np.argsort(keys)
