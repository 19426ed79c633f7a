"""Counting a mask's values, part by part from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from scipy.ndimage import binary_erosion

from satseg.data.masks import ClassScheme
from satseg.data.raster import RasterInfo
from satseg.data.scheme import pack
from satseg.errors import MaskValueError
from satseg.spec import IGNORE_INDEX
from satseg.validation.facts import MaskFacts

MOST_VALUES = 4096  # different values that are kept of a mask that is none
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
        self.num_outside = self.wide = self.near = self.ignored = 0
        self.class_pixels = np.zeros(len(scheme.names), np.int64)
        self.keys = np.array(sorted(scheme.values), np.int64)
        self.indices = np.array([scheme.values[k] for k in self.keys.tolist()], np.uint8)
        self.points = _points(self.keys, scheme.by_colour)
        gaps = np.abs(self.points[:, None] - self.points).max(-1) + np.eye(len(self.points)) * APART
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
        keys = self._keys(raw)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        is_known = self.keys[places] == keys
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
        raw = self.scheme.purified(raw, self.info.colors)
        if self.scheme.by_colour and len(raw) >= 3:
            return pack(raw)
        if not self.scheme.by_colour and len(raw) > 1 and not (raw == raw[:1]).all():
            raise MaskValueError(
                f"{self.info.path} has {len(raw)} bands that differ, but the classes are given by value: give colours "
                "in dataset.classes, such as water: [0, 0, 255]."
            )
        if not self.scheme.by_colour:
            values: np.ndarray = raw[0]
            return values
        colors = self.info.colors or {}
        table = [colors.get(v, (v, v, v)) for v in range(256)]
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
        self.outside.update(counts)
        if len(self.outside) > MOST_VALUES:
            self.outside = Counter(dict(self.outside.most_common(MOST_VALUES)))

    def facts(self) -> MaskFacts:
        """Return what was counted."""
        share = 1 / max(self.num_outside, 1)
        outside = dict(self.outside.most_common(10))
        return MaskFacts(
            known=dict(self.known),
            outside=outside,
            num_outside=self.num_outside,
            distinct=len(self.outside),
            thin=1 - self.wide * share,
            near=self.near * share,
            lossy=self.lossy,
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


def _points(values: np.ndarray, by_colour: bool) -> np.ndarray:
    """Return values as coordinates (n, 1), packed colours as (n, 3)."""
    if not by_colour:
        return values[:, None].astype(np.float64)
    whole = values.astype(np.int64)
    return np.stack([whole >> 16, whole >> 8 & 255, whole & 255], axis=1).astype(np.float64)
