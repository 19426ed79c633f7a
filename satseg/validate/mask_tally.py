"""Counting a mask's values, part by part from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from scipy.ndimage import binary_erosion

from satseg.data.labels.discovery import MAX_DISCOVERED, ClassScheme
from satseg.data.labels.scheme import pack
from satseg.data.rasters.raster import RasterInfo
from satseg.spec import IGNORE_INDEX
from satseg.validate.facts import MaskFacts

MOST_VALUES = 4096  # different values that are kept of a mask that is none
THRESHOLD = 128  # that mends masks of which each channel should be 0 or 255
NEAR = 20  # in each channel: how far compression moves a colour
APART = 3 * NEAR  # known colours nearer to each other than this could not be told from moved ones
STRIPE = np.ones((5, 5), bool)  # what is narrower than five pixels holds no such square


class MaskTally:
    """Adds up the parts of a mask to its facts.

    Args:
        info: Its header.
        scheme: What values mean.
        lossy: Whether its compression changes values.
    """

    def __init__(self, info: RasterInfo, scheme: ClassScheme, lossy: bool) -> None:
        self.info, self.scheme, self.lossy = info, scheme, lossy
        self.known: Counter[int] = Counter()
        self.outside: Counter[float] = Counter()
        self.cut: Counter[int] = Counter()
        self.num_outside = self.wide = self.near = self.ignored = 0
        self.class_pixels = np.zeros(len(scheme.names), np.int64)
        self.keys = np.array(sorted(scheme.values), np.int64)
        self.indices = np.array([scheme.values[k] for k in self.keys.tolist()], np.uint8)
        self.points = _points(self.keys, scheme.by_colour)
        gaps = np.abs(self.points[:, None] - self.points).max(-1) + np.eye(len(self.points)) * APART
        self.can_be_cut = (
            scheme.threshold is None
            and not info.palette
            and all(is_of_ends(k, scheme.by_colour) for k in scheme.values)
        )
        self.can_be_near = bool(gaps.size) and gaps.min() >= APART

    def add(self, raw: np.ndarray, valid: np.ndarray, usable: np.ndarray | None) -> np.ndarray:
        """Add one part.

        Args:
            raw: As stored, (bands, height, width).
            valid: Boolean (height, width); False where the file says nodata or transparent.
            usable: Boolean (height, width) of the image, where that has the same size.

        Returns:
            Class indices (height, width), IGNORE_INDEX for all that is none.
        """
        pure = self.scheme.binarised(raw, self.info.palette)
        keys = self._keys(pure)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        is_known = self.keys[places] == keys
        if pure is not raw:
            is_known &= valid | (pure == raw).all(0)  # what nodata would become is no label
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
            near = (np.abs(_points(values, self.scheme.by_colour)[:, None] - self.points).max(-1) <= NEAR).any(1)
            self.near += int(np.array(list(counts.values()))[near].sum())
        if self.can_be_cut:
            for value, pixels in counts.items():
                self.cut[self._cut(value)] += pixels
        self.outside.update(counts)
        if len(self.outside) > MOST_VALUES:
            self.outside = Counter(dict(self.outside.most_common(MOST_VALUES)))

    def _cut(self, value: float) -> int:
        """Return the value, or packed colour, that a threshold makes of one."""
        if not self.scheme.by_colour:
            return 255 * (value >= THRESHOLD)
        if value < 0:  # what 8 bits cannot say
            return -1
        return sum(255 * ((int(value) >> shift & 255) >= THRESHOLD) << shift for shift in (16, 8, 0))

    def facts(self) -> MaskFacts:
        """Return what was counted."""
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
            cut=tuple(self.cut) if self.can_be_cut else None,
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
    """Return how often each value occurs, by runs of equal neighbours: masks have few of them."""
    flat = values.ravel()
    if not flat.size:
        return {}
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    found, inverse = np.unique(flat[starts], return_inverse=True)
    totals = np.bincount(inverse, weights=lengths).astype(np.int64)
    return dict(zip(found.tolist(), totals.tolist(), strict=True))


def is_of_ends(value: int, by_colour: bool) -> bool:
    """Tell whether a value, or each channel of a packed colour, is 0 or 255, so that a threshold leaves it as it is."""
    channels = [value >> shift & 255 for shift in (16, 8, 0)] if by_colour else [value]
    return all(channel in (0, 255) for channel in channels)


def _points(values: np.ndarray, by_colour: bool) -> np.ndarray:
    """Return values as coordinates (n, 1), packed colours as (n, 3)."""
    if not by_colour:
        return values[:, None].astype(np.float64)
    whole = values.astype(np.int64)
    return np.stack([whole >> 16, whole >> 8 & 255, whole & 255], axis=1).astype(np.float64)
