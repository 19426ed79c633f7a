"""Checks that models can be averaged: same classes and bands in the same order, and the same kind of raw values.

Each model standardises its own input, so scale, offset, mean and standard deviation may differ, as they do between the
folds of a cross-validation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from satseg.data.input_spec import most_common_value
from satseg.data.shifts import find_factor, find_shift, training_levels, usual_shift
from satseg.errors import ConfigError
from satseg.inference.preflight import GSD_RATIO
from satseg.inference.value_checks import MIN_BANDS_FOR_OFFSET, SINGLE_BAND_FACTOR, UNIT_FACTOR
from satseg.spec import DatasetSpec, InputSpec

SAME_TRAINING = "Average models that were trained on the same {}, or make a separate map with each."
MAX_NAMED = 8  # classes or bands that are listed


def check_compatible(specs: Sequence[DatasetSpec], names: Sequence[str]) -> None:
    """Refuse models whose mean would be meaningless.

    Args:
        specs: One per model.
        names: The models as the user named them.

    Raises:
        ConfigError: If two models differ; names them, the difference and the remedy.
    """
    for (one, name), (other, other_name) in combinations(zip(specs, names, strict=True), 2):
        if found := _difference(one, other):
            what, first, second = found
            raise ConfigError(
                f"checkpoint=[…]: {name} and {other_name} cannot be averaged: the first has {first}, the second "
                f"{second}. {SAME_TRAINING.format(what)}"
            )


def joint_spec(specs: Sequence[DatasetSpec]) -> DatasetSpec:
    """Return the first model's spec, with the most common of the nodata values that the models record.

    It marks missing pixels in scenes that declare no nodata value themselves.
    """
    known = [spec.inputs[0].nodata for spec in specs if spec.inputs[0].nodata is not None]
    first = specs[0]
    return replace(first, inputs=(replace(first.inputs[0], nodata=most_common_value(known) if known else None),))


def _difference(one: DatasetSpec, other: DatasetSpec) -> tuple[str, str, str] | None:
    """Describe the first difference between two models, and each one's side of it; None if they may be averaged."""
    own, others = one.inputs[0], other.inputs[0]
    if one.class_names != other.class_names:
        return "classes in the same order", *_listed("classes", one.class_names, other.class_names)
    if own.bands != others.bands:
        return "bands in the same order", *_listed("bands", own.bands, others.bands)
    if one.ignore_index != other.ignore_index:
        return "classes", f"ignore_index {one.ignore_index}", str(other.ignore_index)
    if numbers := _numbers(own, others):
        return "kind of numbers", *numbers
    if (sizes := _pixel_sizes(own, others)) is not None:
        return "pixel size", *sizes
    return None


def _listed(what: str, one: Sequence[str], other: Sequence[str]) -> tuple[str, str]:
    """Describe two lists of names: those unique to each, or all in order where both have the same."""
    if set(one) == set(other) or len({*one, *other}) <= MAX_NAMED:
        return f"the {what} {', '.join(one)}", ", ".join(other)
    first, second = ([name for name in names if name not in beside] for names, beside in ((one, other), (other, one)))
    return f"{len(one)} {what}, of which {_some(first)}", f"{len(other)}, of which {_some(second)}"


def _some(names: Sequence[str]) -> str:
    """Describe the names that the other model lacks."""
    if not names:
        return "none is missing there"
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"only it has {', '.join(names[:MAX_NAMED])}{more}"


def _numbers(one: InputSpec, other: InputSpec) -> tuple[str, str] | None:
    """Describe how raw values differ in unit or offset; None where they do not.

    The criteria are those for scenes: 8-bit images may be brighter or darker, and offsets show in several bands only.
    """
    if one.dtype == other.dtype == "uint8":
        return None
    if one.statistics is None or other.statistics is None:
        kinds = _kind(one.dtype), _kind(other.dtype)
        return None if kinds[0] == kinds[1] else kinds
    first, second = training_levels(one.statistics), training_levels(other.statistics)
    spans = [np.median(known[:, 2] - known[:, 0]) for known in (first, second)]
    factor = float(spans[1] / spans[0]) if min(spans) > 0 else 1.0
    if (
        max(factor, 1 / factor) > (UNIT_FACTOR if len(first) > 1 else SINGLE_BAND_FACTOR)
        or find_factor(second, first) != 1
    ):
        return _range(first), f"{_range(second)}: they are in different units"
    if len(first) >= MIN_BANDS_FOR_OFFSET and (shift := find_shift(second, first)):
        way = "higher" if shift > 0 else "lower"
        return _range(first), f"{_range(second)}, {abs(usual_shift(shift)):g} {way} in all bands"
    return None


def _kind(dtype: str) -> str:
    numbers = np.dtype(dtype)
    if numbers.kind == "f":
        return "floating-point values"
    return f"integers of {'8 bits' if numbers.itemsize == 1 else 'more than 8 bits'}"


def _range(known: np.ndarray) -> str:
    low, _, high = np.median(known, axis=0)
    return f"values from {low:.3g} to {high:.3g}"


def _pixel_sizes(one: InputSpec, other: InputSpec) -> tuple[str, str] | None:
    """Describe the pixel sizes of two trainings that no single scene can match; None if one can."""
    ranges = [_sizes(source) for source in (one, other)]
    if ranges[0] is None or ranges[1] is None:
        return None
    (low, high), (other_low, other_high) = ranges[0], ranges[1]
    if max(low / other_high, other_low / high) <= GSD_RATIO:
        return None
    return f"pixels of {math.sqrt(low * high):.3g} m", f"of {math.sqrt(other_low * other_high):.3g} m"


def _sizes(source: InputSpec) -> tuple[float, float] | None:
    if source.gsd_range_m is not None:
        return source.gsd_range_m
    return None if source.gsd_m is None else (source.gsd_m, source.gsd_m)
