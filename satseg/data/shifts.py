"""Detection of a common offset or factor between the numbers of two sets of images.

Another place or season changes each band in its own way. A product's offset (Sentinel-2's 1000 since processing
baseline 04.00) or another unit changes all bands alike, in dark and bright pixels: a single number undoes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from satseg.spec import BandStatistics

# Least shift, relative to the median span of the bands; the second for a single band.
MIN_SHIFT, MIN_SHIFT_ONE_BAND = 0.2, 0.5
MIN_FACTOR = 7.0  # least factor, up or down; real scenes of one training set differ by up to 5
MAX_RESIDUAL = 1 / 3  # largest share of the difference that one number for all bands may leave unexplained
MIN_SPAN = 0.1  # least span of a band, relative to the median band
MARGIN = 0.25  # relative to a band's span: numbers farther outside are unlike the training data
FILL_SHARE = 0.01  # least share of pixels with the same extreme value in all bands that counts as fill
SPAN_TOLERANCE = math.log(2)  # largest factor between the spans of scenes of one kind, averaged over the bands
UNLIKE_SHARE = 0.5  # least share of such pixels in a scene that is unlike the training data
UNITS = (10.0, 100.0, 1000.0, 10_000.0, 65_535.0)  # factors between usual units, or their inverses
UNIT_TOLERANCE = math.log(1.5)  # largest deviation of a measured factor from such a unit
USUAL_SHIFTS = (0.1, 0.2, 273.15, 1000.0)  # reflectance of Sentinel-2 and of Landsat, kelvins, Sentinel-2 as stored
SHIFT_TOLERANCE = 0.2  # largest relative deviation of a measured shift from a usual one


def without_fill(values: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Return the pixels (C, n) without undeclared fill, such as the black corners of a product.

    Fill is the lowest or highest number of all, the same in all bands of a pixel, and covers much of the scene. It says
    nothing about unit or offset, and would be taken for the darkest or brightest pixels.

    Args:
        values: Pixels (C, n).
        known: Levels (C, 3) of the training data; a number within their range is never fill.
    """
    if not values.size:
        return values
    alike = (values == values[0]).all(0)
    is_fill = np.zeros(values.shape[1], bool)
    for end in (values.min(), values.max()):
        if known is not None and known[:, 0].min() <= end <= known[:, 2].max():
            continue
        at_end = alike & (values[0] == end)
        if np.count_nonzero(at_end) >= FILL_SHARE * at_end.size:
            is_fill |= at_end
    return values[:, ~is_fill] if is_fill.any() else values


def levels(values: np.ndarray) -> np.ndarray:
    """Return the 2nd percentile, mean and 98th percentile of each band (C, 3) of pixels (C, n)."""
    low, high = np.percentile(values, (2, 98), axis=1)
    return np.stack([low, values.mean(1, dtype=np.float64), high], axis=1)


def training_levels(known: BandStatistics) -> np.ndarray:
    """Return the levels (C, 3) of the training split, as by `levels`."""
    return np.array([known.p02, known.mean, known.p98], np.float64).T


def find_shift(observed: np.ndarray, known: np.ndarray) -> float:
    """Return the offset of all bands against the known levels; 0 if no single number explains the difference.

    Args:
        observed: Levels (C, 3) of the examined pixels.
        known: Levels (C, 3) that they should have.
    """
    spans = _spans(known)
    apart = observed - known
    shift = float(np.median(apart))
    if abs(shift) < (MIN_SHIFT if len(known) > 1 else MIN_SHIFT_ONE_BAND) * np.median(spans):
        return 0.0
    left = np.abs(apart - shift) / spans
    return shift if left.mean() < MAX_RESIDUAL * (np.abs(apart) / spans).mean() else 0.0


def find_factor(observed: np.ndarray, known: np.ndarray) -> float:
    """Return the factor of all bands against the known levels; 1 if no single factor explains the difference.

    Only for non-negative numbers: ratios of others mean nothing.

    Args:
        observed: As for `find_shift`.
        known: As for `find_shift`.
    """
    if (observed[:, 0] < 0).any() or (known[:, 0] < 0).any():
        return 1.0
    ratios = differences(observed, known, by_factor=True)
    ratios = ratios[np.isfinite(ratios)]
    if not ratios.size:
        return 1.0
    factor = float(np.median(ratios))
    is_reason = np.abs(ratios - factor).mean() < MAX_RESIDUAL * np.abs(ratios).mean()
    return math.exp(factor) if abs(factor) > math.log(MIN_FACTOR) and is_reason else 1.0


def fits_factor(observed: np.ndarray, known: np.ndarray) -> bool:
    """Return True if levels (C, 3), with a factor undone, have the known spans; an offset does not change spans."""
    return bool(np.abs(np.log(_spans(observed) / _spans(known))).mean() < SPAN_TOLERANCE)


def outlier_share(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the share of pixels (C, n) per band that lie far outside the training levels (C, 3)."""
    margins = MARGIN * _spans(known)
    low, high = known[:, :1] - margins, known[:, 2:] + margins
    shares: np.ndarray = ((values < low) | (values > high)).mean(1)
    return shares


def differences(observed: np.ndarray, known: np.ndarray, by_factor: bool = False) -> np.ndarray:
    """Return the differences of levels (N, C, 3) from known ones (C, 3), or the logarithms of their ratios.

    Only the mean and the 98th percentile have ratios, as the dark end may be 0; NaN where either is not positive.
    """
    if not by_factor:
        return np.asarray(observed - known)
    upper, known = observed[..., 1:], known[..., 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: np.ndarray = np.where((upper > 0) & (known > 0), np.log(upper / known), np.nan)
    return logs


def usual_factor(factor: float, units: Sequence[float] = UNITS) -> float:
    """Return the nearest factor between usual units if it is close, else the measured factor to two digits."""
    nearest = min((power for unit in units for power in (unit, 1 / unit)), key=lambda u: abs(math.log(u / factor)))
    return nearest if abs(math.log(nearest / factor)) <= UNIT_TOLERANCE else float(f"{factor:.2g}")


def usual_shift(shift: float) -> float:
    """Return the nearest offset of known products if it is close, else the measured shift to two digits."""
    nearest = min(USUAL_SHIFTS, key=lambda usual: abs(abs(shift) - usual) / usual)
    if abs(abs(shift) - nearest) <= SHIFT_TOLERANCE * nearest:
        return math.copysign(nearest, shift)
    return float(f"{shift:.2g}")


def _spans(known: np.ndarray) -> np.ndarray:
    """Return the span of each band's levels (C, 1)."""
    spans = known[:, 2:] - known[:, :1]
    return np.asarray(np.maximum(spans, max(MIN_SPAN * float(np.median(spans)), 1e-9)))
