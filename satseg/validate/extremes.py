"""The lowest and the highest number of a band: how often each comes, and what comes next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from satseg.validate.facts import Extreme

REPEATED = 0.001  # share of a part's pixels; what comes next to rarer numbers is not looked for, which takes time


class Extremes:
    """One end of all bands, added up over the parts of an image.

    Args:
        bands: How many.
        sign: 1 for the highest numbers, -1 for the lowest.
    """

    def __init__(self, bands: int, sign: int) -> None:
        self.sign = sign
        self.best: Callable[..., Any] = np.max if sign > 0 else np.min
        self.found = [Extreme(-sign * np.inf, 0, -sign * np.inf)] * bands

    def add(self, pixels: np.ndarray) -> None:
        """Add the usable pixels (bands, n) of a part; n is at least 1."""
        self.found = [self._merged(old, self._of(band)) for old, band in zip(self.found, pixels, strict=True)]

    def _of(self, band: np.ndarray) -> Extreme:
        value = self.best(band)
        is_value = band == value
        number = int(np.count_nonzero(is_value))
        others = band[~is_value] if number >= REPEATED * band.size else band[:0]
        return Extreme(float(value), number, float(self.best(others)) if others.size else -self.sign * np.inf)

    def _merged(self, one: Extreme, other: Extreme) -> Extreme:
        outer, inner = (one, other) if (one.value - other.value) * self.sign >= 0 else (other, one)
        number = outer.number + (inner.number if inner.value == outer.value else 0)
        next_values = [outer.next, inner.next if inner.value == outer.value else inner.value]
        return Extreme(outer.value, number, float(self.best(next_values)))
