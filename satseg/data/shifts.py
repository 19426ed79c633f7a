"""Telling numbers that were shifted or multiplied as a whole from scenes that only look different.

A scene of another place or season changes its bands each in its own way. A product's offset (Sentinel-2's 1000 since
processing baseline 04.00) or another unit changes all of them alike, dark and bright pixels too: one number undoes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from satseg.spec import BandStatistics

SHIFT, SHIFT_ALONE = 0.2, 0.5  # of the median band's span: what a shift must come to; more where there is one band only
FACTOR = 7.0  # what a factor must come to, up or down; real scenes of one training differ by 5
LEFT = 1 / 3  # of the difference that one number for all bands may leave, to be the reason of it
NARROW = 0.1  # of the median band's spread: a band with less counts as having so much
MARGIN = 0.25  # of a band's span, beside it: numbers farther out are unlike the training's
FILL = 0.01  # share of pixels from which one number in all bands, below or above all others, counts as a fill
ALIKE = math.log(2)  # by which factor the spans of scenes of one kind may differ, in the mean of the bands
UNLIKE = 0.5  # share of pixels that lie there, from which a scene is unlike the training
UNITS = (10.0, 100.0, 1000.0, 10_000.0, 65_535.0)  # factors between usual units, or their inverses
NEAR_UNIT = math.log(1.5)  # by which factor a measured one may be off
USUAL_SHIFTS = (0.1, 0.2, 273.15, 1000.0)  # reflectance of Sentinel-2 and of Landsat, kelvins, Sentinel-2 as stored
NEAR = 0.2  # how far the measured shift may be from a usual one


def without_fill(values: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Return the pixels (C, n) that are no fill, such as the black corners of a product that does not declare them.

    A fill is the lowest or the highest number of all, in all bands of a pixel alike, and takes much of the scene. It
    says nothing of a unit or an offset, and would stand for the darkest or the brightest numbers.

    Args:
        values: Pixels.
        known: Levels (C, 3) of the training: a number between them is none, as it may be one of the training's, too.
    """
    if not values.size:
        return values
    alike = (values == values[0]).all(0)
    is_fill = np.zeros(values.shape[1], bool)
    for end in (values.min(), values.max()):
        if known is not None and known[:, 0].min() <= end <= known[:, 2].max():
            continue
        at_end = alike & (values[0] == end)
        if np.count_nonzero(at_end) >= FILL * at_end.size:
            is_fill |= at_end
    return values[:, ~is_fill] if is_fill.any() else values


def levels(values: np.ndarray) -> np.ndarray:
    """Return the 2nd percentile, the mean and the 98th percentile of each band (C, 3) of pixels (C, n)."""
    low, high = np.percentile(values, (2, 98), axis=1)
    return np.stack([low, values.mean(1, dtype=np.float64), high], axis=1)


def training_levels(known: BandStatistics) -> np.ndarray:
    """Return the same (C, 3) of the training split."""
    return np.array([known.p02, known.mean, known.p98], np.float64).T


def find_shift(there: np.ndarray, known: np.ndarray) -> float:
    """Return by how much all bands are higher than they should be; 0 where no single number tells the difference.

    Args:
        there: Levels (C, 3) of what is looked at.
        known: Levels of what it should be like.
    """
    spans = _spans(known)
    apart = there - known
    shift = float(np.median(apart))
    if abs(shift) < (SHIFT if len(known) > 1 else SHIFT_ALONE) * np.median(spans):
        return 0.0
    left = np.abs(apart - shift) / spans
    return shift if left.mean() < LEFT * (np.abs(apart) / spans).mean() else 0.0


def find_factor(there: np.ndarray, known: np.ndarray) -> float:
    """Return by which factor all bands are higher than they should be; 1 where no single one tells the difference.

    Only of numbers that are not negative: others have no ratio that means something.

    Args:
        there: As for `find_shift`.
        known: As for `find_shift`.
    """
    if (there[:, 0] < 0).any() or (known[:, 0] < 0).any():
        return 1.0
    ratios = differences(there, known, by_factor=True)
    ratios = ratios[np.isfinite(ratios)]
    if not ratios.size:
        return 1.0
    factor = float(np.median(ratios))
    is_reason = np.abs(ratios - factor).mean() < LEFT * np.abs(ratios).mean()
    return math.exp(factor) if abs(factor) > math.log(FACTOR) and is_reason else 1.0


def fits_factor(there: np.ndarray, known: np.ndarray) -> bool:
    """Tell whether levels (C, 3), once a factor is undone, reach as far as the known ones: an offset leaves them so."""
    return bool(np.abs(np.log(_spans(there) / _spans(known))).mean() < ALIKE)


def outlier_share(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the share of each band's pixels (C, n) that lie far outside the levels (C, 3) of the training."""
    margins = MARGIN * _spans(known)
    low, high = known[:, :1] - margins, known[:, 2:] + margins
    shares: np.ndarray = ((values < low) | (values > high)).mean(1)
    return shares


def differences(there: np.ndarray, known: np.ndarray, by_factor: bool = False) -> np.ndarray:
    """Return by how much levels (N, C, 3) are higher than known ones (C, 3), or the logarithms of the factors.

    Factors are of the mean and the 98th percentile alone, as the dark end may be 0; NaN where either is not above 0.
    """
    if not by_factor:
        return np.asarray(there - known)
    upper, known = there[..., 1:], known[..., 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: np.ndarray = np.where((upper > 0) & (known > 0), np.log(upper / known), np.nan)
    return logs


def usual_factor(factor: float, units: Sequence[float] = UNITS) -> float:
    """Return the factor between usual units where the measured one is near it; else that, to two digits."""
    nearest = min((power for unit in units for power in (unit, 1 / unit)), key=lambda u: abs(math.log(u / factor)))
    return nearest if abs(math.log(nearest / factor)) <= NEAR_UNIT else float(f"{factor:.2g}")


def usual_shift(shift: float) -> float:
    """Return the shift that products are known for where the measured one is near it; else that, to two digits."""
    nearest = min(USUAL_SHIFTS, key=lambda usual: abs(abs(shift) - usual) / usual)
    if abs(abs(shift) - nearest) <= NEAR * nearest:
        return math.copysign(nearest, shift)
    return float(f"{shift:.2g}")


def _spans(known: np.ndarray) -> np.ndarray:
    """Return how far the levels of each band reach (C, 1)."""
    spans = known[:, 2:] - known[:, :1]
    return np.asarray(np.maximum(spans, max(NARROW * float(np.median(spans)), 1e-9)))
