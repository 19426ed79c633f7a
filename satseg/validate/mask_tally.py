"""Statistics of a mask's values, part by part from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from scipy.ndimage import binary_erosion

from satseg.data.labels.discovery import MAX_DISCOVERED, ClassScheme
from satseg.data.labels.scheme import pack
from satseg.data.rasters.header import RasterInfo
from satseg.spec import IGNORE_INDEX
from satseg.validate.facts import MaskFacts

MAX_VALUES = 4096  # distinct values kept, in case a file is no mask
THRESHOLD = 128  # repairs masks whose channels should be 0 or 255
MAX_COLOUR_SHIFT = 20  # of compression, in each channel
MIN_COLOUR_GAP = 3 * MAX_COLOUR_SHIFT  # between known colours, so that shifted ones are unambiguous
STRIPE = np.ones((5, 5), bool)  # shapes narrower than five pixels contain no such square


class MaskTally:
    """Accumulator of a mask's facts over its parts.

    Args:
        info: Header of the mask.
        scheme: Meaning of its values.
        lossy: True if its compression changes values.
    """

    def __init__(self, info: RasterInfo, scheme: ClassScheme, lossy: bool) -> None:
        self.info, self.scheme, self.lossy = info, scheme, lossy
        self.known: Counter[int] = Counter()
        self.outside: Counter[float] = Counter()
        self.thresholded: Counter[int] = Counter()
        self.num_outside = self.wide = self.near = self.ignored = 0
        self.class_pixels = np.zeros(len(scheme.names), np.int64)
        self.keys = np.array(sorted(scheme.values), np.int64)
        self.indices = np.array([scheme.values[k] for k in self.keys.tolist()], np.uint8)
        self.points = _coordinates(self.keys, scheme.by_colour)
        gaps = np.abs(self.points[:, None] - self.points).max(-1) + np.eye(len(self.points)) * MIN_COLOUR_GAP
        self.can_be_thresholded = (
            scheme.threshold is None
            and not info.palette
            and all(is_extreme(k, scheme.by_colour) for k in scheme.values)
        )
        self.can_be_near = bool(gaps.size) and gaps.min() >= MIN_COLOUR_GAP

    def add(self, raw: np.ndarray, valid: np.ndarray, usable: np.ndarray | None) -> np.ndarray:
        """Add one part.

        Args:
            raw: As stored, (bands, height, width).
            valid: Boolean (height, width); False where the file declares nodata or transparency.
            usable: Valid pixels of the image, boolean (height, width), if it has the same size.

        Returns:
            Class indices (height, width), IGNORE_INDEX for all other values.
        """
        pure = self.scheme.binarised(raw, self.info.palette)
        keys = self._keys(pure)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        is_known = self.keys[places] == keys
        if pure is not raw:
            is_known &= valid | (pure == raw).all(0)  # what nodata would be converted to is no label
        classes = np.where(is_known, self.indices[places], np.uint8(IGNORE_INDEX))
        outside = ~is_known & valid & np.isfinite(keys)
        self.known.update({int(v): n for v, n in count_values(keys[is_known]).items()})
        if outside.any():
            self._add_outside(keys, outside)
        self.ignored += int(np.count_nonzero((classes == IGNORE_INDEX) & ~outside))
        counted = classes if usable is None else classes[usable]
        self.class_pixels += np.bincount(counted.ravel(), minlength=256)[: len(self.class_pixels)]
        return classes

    def _keys(self, raw: np.ndarray) -> np.ndarray:
        if self.scheme.by_colour and len(raw) >= 3:
            return pack(raw)
        self.scheme.check_grey(raw, self.info.path)
        if not self.scheme.by_colour:
            values: np.ndarray = raw[0]
            return values
        palette = self.info.palette or {}
        table = [palette.get(v, (v, v, v)) for v in range(256)]
        packed = np.array([r << 16 | g << 8 | b for r, g, b in table], np.int32)
        expanded: np.ndarray = packed[np.clip(np.nan_to_num(raw[0]), 0, 255).astype(np.uint8)]
        return expanded

    def _add_outside(self, keys: np.ndarray, outside: np.ndarray) -> None:
        counts = count_values(keys[outside])
        self.num_outside += int(np.count_nonzero(outside))
        self.wide += int(np.count_nonzero(binary_erosion(outside, STRIPE)))
        if self.can_be_near:
            values = np.array(list(counts), np.float64)
            near = (
                np.abs(_coordinates(values, self.scheme.by_colour)[:, None] - self.points).max(-1) <= MAX_COLOUR_SHIFT
            ).any(1)
            self.near += int(np.array(list(counts.values()))[near].sum())
        if self.can_be_thresholded:
            for value, pixels in counts.items():
                self.thresholded[self._threshold_value(value)] += pixels
        self.outside.update(counts)
        if len(self.outside) > MAX_VALUES:
            self.outside = Counter(dict(self.outside.most_common(MAX_VALUES)))

    def _threshold_value(self, value: float) -> int:
        """Return a value, or packed colour, after thresholding."""
        if not self.scheme.by_colour:
            return 255 * (value >= THRESHOLD)
        if value < 0:  # beyond 8 bits
            return -1
        return sum(255 * ((int(value) >> shift & 255) >= THRESHOLD) << shift for shift in (16, 8, 0))

    def facts(self) -> MaskFacts:
        """Return the accumulated facts."""
        share = 1 / max(self.num_outside, 1)
        outside = dict(self.outside.most_common(MAX_DISCOVERED))
        return MaskFacts(
            known=dict(self.known),
            outside=outside,
            num_outside=self.num_outside,
            distinct=len(self.outside),
            thin=1 - self.wide * share,
            near=self.near * share,
            lossy=self.lossy,
            thresholded=tuple(self.thresholded) if self.can_be_thresholded else None,
            ignored=self.ignored,
            class_pixels=self.class_pixels,
            labelled=self._labelled(),
        )

    def _labelled(self) -> np.ndarray:
        labelled = np.zeros(len(self.scheme.names), np.int64)
        for value, pixels in self.known.items():
            if (index := self.scheme.values[value]) < len(labelled):
                labelled[index] += pixels
        return labelled


def count_values(values: np.ndarray) -> Mapping[float, int]:
    """Return the frequency of each value, counted by runs of equal neighbours, of which masks have few."""
    flat = values.ravel()
    if not flat.size:
        return {}
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    found, inverse = np.unique(flat[starts], return_inverse=True)
    totals = np.bincount(inverse, weights=lengths).astype(np.int64)
    return dict(zip(found.tolist(), totals.tolist(), strict=True))


def is_extreme(value: int, by_colour: bool) -> bool:
    """Return whether a value, or each channel of a packed colour, is 0 or 255 and so unchanged by a threshold."""
    channels = [value >> shift & 255 for shift in (16, 8, 0)] if by_colour else [value]
    return all(channel in (0, 255) for channel in channels)


def _coordinates(values: np.ndarray, by_colour: bool) -> np.ndarray:
    """Return values as coordinates (n, 1), packed colours as (n, 3)."""
    if not by_colour:
        return values[:, None].astype(np.float64)
    whole = values.astype(np.int64)
    return np.stack([whole >> 16, whole >> 8 & 255, whole & 255], axis=1).astype(np.float64)
