"""Comparison of a scene's values with the training's: unit, offset, range and band order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from satseg.data.rasters.opening import redacted
from satseg.data.shifts import (
    MIN_SPAN,
    UNITS,
    UNLIKE_SHARE,
    find_factor,
    find_shift,
    fits_factor,
    levels,
    outlier_share,
    training_levels,
    usual_shift,
    without_fill,
)
from satseg.inference.reading import SceneSource
from satseg.spec import BandStatistics, InputSpec

UNIT_FACTOR = 15.0  # values this many times too large or small are in another unit
SINGLE_BAND_FACTOR = 50.0  # for one band with negative values: an index varies 40 times less over snow or clouds
MIN_PIXELS = 50  # fewer are not compared
MIN_BANDS_FOR_OFFSET = 4  # mostly includes near infrared: in three colours, clouds and snow look like an offset, too
BYTE_IN_ONE, BYTE_IN_16_BITS = 255.0, 257.0  # 8-bit images stored as 0 to 1, or as 16-bit integers


@dataclass
class Findings:
    """Differences between a scene and the training data.

    Attributes:
        errors: Those that make the result worthless.
        warnings: Those that may.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_values(
    values: np.ndarray, scene: SceneSource, source: InputSpec, known: BandStatistics, found: Findings
) -> None:
    """Compare a scene's values with those of the training.

    Args:
        values: A sample of its pixels (C, n), converted by the options.
        scene: The scene, with the options and the file's own scale and offset tags.
        source: The model's input.
        known: Statistics of the training split.
        found: Findings to add to.
    """
    name = redacted(scene.info.path)
    constant = [band_name for band_name, band in zip(source.bands, values, strict=True) if band.min() == band.max()]
    trained = training_levels(known)
    if not _is_picture(scene, source) and (rest := without_fill(values, trained)).shape[1] >= MIN_PIXELS:
        values = rest  # in 8-bit images, the extremes are saturated pixels and not fill
    there = levels(values)
    if constant:
        found.warnings.append(f"{name}: the same value everywhere in {', '.join(constant)}; is it missing?")
    factors = _factors(there, trained)
    unit, shift = _change(there, trained, factors, scene, source)
    shift_findings = found.errors if len(source.bands) >= MIN_BANDS_FOR_OFFSET else found.warnings
    if unit != 1 or shift:
        text = _difference(there, trained, unit, shift, _advice(scene, source, there, trained, unit, shift))
        (found.errors if max(unit, 1 / unit) > UNIT_FACTOR else shift_findings).append(f"{name}: {text}.")
        return
    odd = [b for b, f in zip(source.bands, factors, strict=True) if max(f, 1 / f) > UNIT_FACTOR and b not in constant]
    if odd and len(source.bands) > 1:
        found.warnings.append(f"{name}: the values of {', '.join(odd)} are far from those of the training.")
    elif float(np.median(unlike := outlier_share(values, trained))) > UNLIKE_SHARE:
        found.warnings.append(
            f"{name}: {100 * np.median(unlike):.0f} % of the values lie far outside those of the training "
            f"({_range(trained)}, 2nd to 98th percentile; here {_range(there)}), so the map may mean nothing."
        )
    elif len(source.bands) > 1 and not constant:
        _order(values, scene, source, known, found)


def _range(bands: np.ndarray) -> str:
    low, _, high = np.median(bands, axis=0)
    return f"{low:.3g} to {high:.3g}"


def _change(
    there: np.ndarray, trained: np.ndarray, factors: np.ndarray, scene: SceneSource, source: InputSpec
) -> tuple[float, float]:
    """Return the factor to the training's unit, and the offset that then remains; 1 and 0 if the values fit.

    8-bit images have neither another unit nor an offset: a difference in brightness is one of the light. The same holds
    for images of another dtype once they are converted to 8-bit values.
    """
    factor = float(np.median(factors))
    is_picture = _is_picture(scene, source)
    is_index = len(there) == 1 and min(there[0, 0], trained[0, 0]) < 0
    if max(factor, 1 / factor) <= (SINGLE_BAND_FACTOR if is_index else UNIT_FACTOR):
        factor = 1.0 if is_picture else 1 / find_factor(there, trained)
    unit = _unit(factor, scene, source)
    shift = 0.0 if is_picture or (unit != 1 and source.dtype == "uint8") else find_shift(there * unit, trained)
    return unit, usual_shift(shift) if shift else 0.0


def _difference(there: np.ndarray, trained: np.ndarray, unit: float, shift: float, advice: str) -> str:
    """Describe how a scene's values differ from the training's, and the remedy."""
    about = "" if unit != 1 else f"are about {abs(shift):g} {'higher' if shift > 0 else 'lower'} than in training, "
    if not advice:
        return (
            f"values {about}go from {_range(there)}, in training from {_range(trained)} (2nd to 98th percentile), and "
            "no common factor or offset alone explains this in all bands; convert them to the training's values"
        )
    if about:
        return f"values {about}in all bands, as an offset between product versions makes them; {advice}"
    high, trained_high = np.median(there[:, 2]), np.median(trained[:, 2])
    return (
        f"values reach {high:.3g}, in training {trained_high:.3g} (98th percentiles), so they are in another unit; "
        f"{advice}"
    )


def _is_picture(scene: SceneSource, source: InputSpec) -> bool:
    is_stored = (scene.scale, scene.offset) == (1.0, 0.0)
    return is_stored and scene.info.dtype_of(scene.bands) == source.dtype == "uint8"


def _advice(
    scene: SceneSource, source: InputSpec, there: np.ndarray, trained: np.ndarray, unit: float, shift: float
) -> str:
    """Return the options that convert a scene's values to the training's, preferably those of the file's own tags.

    No advice is given if values would remain in another unit or offset than the training's.
    """
    tags = scene.info.scale_offsets_of(scene.bands)
    if len(tags) > 1:
        return "its bands have different scale and offset tags: apply them (gdal_translate -unscale -ot Float32)"
    ((scale, offset),) = tags
    tagged = f"scale={scale:g} offset={offset:g}"
    is_tagged = (scale, offset) != (1.0, 0.0)
    if is_tagged:
        applied = (there - scene.offset) / scene.scale * scale + offset
        factor = float(np.median(_factors(applied, trained)))
        if max(factor, 1 / factor) <= UNIT_FACTOR:
            factor = 1 / find_factor(applied, trained)
        own_unit = _unit(factor, scene, source)
        if find_shift(applied * own_unit, trained) == 0:
            if own_unit == 1:
                return f"set {tagged}, as its own tags say"
            options = _options(scene, scale * own_unit, offset * own_unit)
            return f"set {options}, as its own tags say ({tagged}) in the training's unit"
    undone = there * unit - shift
    is_shifted = (unit == 1 or source.dtype != "uint8") and find_shift(undone, trained)
    if is_shifted or (unit != 1 and not fits_factor(undone, trained)):
        return ""
    unfit = f" (its own tags, {tagged}, do not fit)" if is_tagged else ""
    return f"set {_options(scene, scene.scale * unit, scene.offset * unit - shift)}{unfit}"


def _options(scene: SceneSource, scale: float, offset: float) -> str:
    """Format the options that differ from the defaults or that the user has set."""
    named = {"scale": (scale, 1.0, scene.scale), "offset": (offset + 0.0, 0.0, scene.offset)}
    wanted = {n: v for n, (v, usual, given) in named.items() if not math.isclose(v, usual) or given != usual}
    return " ".join(f"{name}={value:g}" for name, value in wanted.items())


def _factors(there: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Return the factor by which each band's values are smaller than in training.

    It is the ratio of the highest values, or of the spreads if values are negative, as decibels are.
    """
    low, _, high = there.T
    trained_low, _, trained_high = trained.T
    positive = (high > 0) & (trained_high > 0) & (low >= 0) & (trained_low >= 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where(positive, trained_high / high, (trained_high - trained_low) / (high - low))
    return np.where(np.isfinite(factors) & (factors > 0), factors, 1.0)


def _unit(factor: float, scene: SceneSource, source: InputSpec) -> float:
    """Return the common factor between units that is nearest to the measured one; 1 for the same unit."""
    dtypes = np.dtype(scene.info.dtype_of(scene.bands)), np.dtype(source.dtype)
    are_integers = scene.scale == 1.0 and all(np.issubdtype(dtype, np.integer) for dtype in dtypes)
    units = (*UNITS, BYTE_IN_16_BITS if are_integers else BYTE_IN_ONE)
    candidates = [1.0, *units, *(1 / unit for unit in units)]
    return min(candidates, key=lambda unit: abs(math.log(unit / factor)))


def _order(values: np.ndarray, scene: SceneSource, source: InputSpec, known: BandStatistics, found: Findings) -> None:
    """Warn if another band order fits the training far better than the one in use."""
    mean, trained = values.mean(1), np.array(known.mean)
    spread = np.maximum(known.std, max(MIN_SPAN * float(np.median(known.std)), 1e-9))  # a faint band is mostly noise
    level = np.median(mean - trained)  # the scene may be brighter or darker as a whole
    cost = np.abs((mean[:, None] - level - trained[None]) / spread[None])
    scene_order, model_order = linear_sum_assignment(cost)
    best, given = cost[scene_order, model_order].mean(), np.diag(cost).mean()
    if given > 1.0 and best < given / 4:
        numbers = [scene.bands[i] for i in np.argsort(model_order)]
        found.warnings.append(
            f"{redacted(scene.info.path)}: the bands look swapped: in the order {numbers} their means fit the training "
            f"far better; if so, set bands={numbers}."
        )
