"""Rows of numbers that lie near each other, found without comparing all pairs.

Rows are sorted by which side of some planes they lie on, and each is compared with the few that sort next to it, in
several orders; so time grows with the number of rows, and what very many rows share, such as a pattern, costs no more.
Method: Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.
"""

from __future__ import annotations

import numpy as np

PLANES = 32  # of an order: bits of a key
CHUNK = 2**14  # rows at a time


class Neighbours:
    """Sorts rows so that those near others are found.

    Args:
        rows: Numbers (n, length), int8 or float32.
        orders: In which they are sorted; the more, the fewer are missed.
        nearest: Rows on each side of a place in an order that are compared.
    """

    def __init__(self, rows: np.ndarray, orders: int, nearest: int) -> None:
        self.rows, self.nearest = rows, nearest
        random = np.random.default_rng(0)
        self.middle = rows.mean(0, dtype=np.float64).astype(np.float32) if len(rows) else np.float32(0)
        spread = np.maximum(rows.std(0, dtype=np.float64), 1e-6) if len(rows) else np.ones(rows.shape[1])
        self.planes = [(random.normal(size=(PLANES, len(spread))) / spread).T.astype(np.float32) for _ in range(orders)]
        self.orders = [(keys[order], order.astype(np.int32)) for keys, order in map(_sorted, self._keys(rows))]

    def near(self, rows: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of rows (m, length) and of own rows that lie less than `reach` apart, each pair once."""
        found = [np.zeros(0, np.int64)]
        for (keys, order), asked in zip(self.orders, self._keys(rows), strict=True):
            by_key = np.argsort(asked)
            for start in range(0, len(rows) if len(keys) else 0, CHUNK):
                first = by_key[start : start + CHUNK]
                middle = np.searchsorted(keys, asked[first])
                around = middle[:, None] + np.arange(-self.nearest, self.nearest)
                second = order[np.clip(around, 0, len(order) - 1)]
                apart = self.rows[second].astype(np.float32) - rows[first, None].astype(np.float32)
                is_near = np.einsum("ijk,ijk->ij", apart, apart) < reach**2
                found.append((first[:, None] * len(order) + second)[is_near])
        pairs = np.sort(np.concatenate(found))
        first, second = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], max(len(self.rows), 1))
        return first, second

    def _keys(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return a number of each row, for each order: a bit tells on which side of a plane it lies."""
        keys = [np.empty(len(rows), np.uint32) for _ in self.planes]
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK] - self.middle
            for key, planes in zip(keys, self.planes, strict=True):
                key[start : start + CHUNK] = np.packbits(part @ planes > 0, axis=1).view(">u4")[:, 0]
        return keys


def _sorted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return keys, np.argsort(keys)
