"""Building the input spec of a dataset: its bands, scaling and standardisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median_low
from typing import Literal, TypeVar

import numpy as np

from satseg.data.options import Normalisation
from satseg.data.rasters.raster import RasterInfo
from satseg.spec import BandStatistics, InputSpec

Numbers = tuple[float, ...]
T = TypeVar("T")
MIN_DIVISOR = 1e-6  # of a divisor: a constant band stays finite


def input_spec(
    info: RasterInfo,
    numbers: Sequence[int],
    statistics: BandStatistics,
    *,
    scale: float | Literal["auto"],
    offset: float | Literal["auto"],
    nodata: float | None,
    normalisation: Normalisation,
) -> InputSpec:
    """Describe an input.

    Args:
        info: Header of an image.
        numbers: Its bands, in the order of the channels.
        statistics: Of the training split.
        scale: Divisor of raw numbers to unit scale; `auto` is 255 for 8-bit images, else the training split's range
            from the 2nd to the 98th percentile of all bands.
        offset: Subtracted before; `auto` is 0, or what makes the lowest of these percentiles 0 where it is negative
            and the scale is `auto` too.
        nodata: Value of missing pixels; by default what all bands of the file declare, if they do.
        normalisation: What becomes 0 and 1: `backbone`: of the backbone's own mean and deviation; `scale`: of unit
            scale; `standardise`: mean, and mean plus deviation, of each band; `percentile`: the 2nd and 98th percentile
            of each band; `auto`: the backbone's for 8-bit RGB, else `standardise`.

    Returns:
        The input; mean and std are None where they are the backbone's.
    """
    dtype = info.dtype_of(numbers)
    divisor, start = _unit_scale(dtype, statistics, scale, offset)
    kind: str = normalisation
    if kind == "auto":
        kind = "backbone" if dtype == "uint8" and len(numbers) == 3 else "standardise"
    mean, std = _standardisation(kind, statistics, divisor, start)
    names = tuple(info.band_names[n - 1] for n in numbers)
    missing = info.validity.common_nodata(numbers) if nodata is None else nodata
    edges = None if info.pixel_m is None else (min(info.pixel_m), max(info.pixel_m))
    return InputSpec(names, dtype, divisor, start, missing, info.gsd_m, 1, mean, std, statistics, gsd_range_m=edges)


def _unit_scale(
    dtype: str, statistics: BandStatistics, scale: float | Literal["auto"], offset: float | Literal["auto"]
) -> tuple[float, float]:
    measured = scale == "auto" and dtype != "uint8"
    low = min(0.0, *statistics.p02) if measured else 0.0
    start = low if offset == "auto" else float(offset)
    if scale != "auto":
        return float(scale), start
    return max(max(statistics.p98) - start, MIN_DIVISOR) if measured else 255.0, start


def _standardisation(
    kind: str, statistics: BandStatistics, scale: float, offset: float
) -> tuple[Numbers | None, Numbers | None]:
    """Return what becomes 0, and what its distance to 1 is, by band at unit scale."""
    if kind == "backbone":
        return None, None
    zero, one = {  # as raw numbers
        "scale": ((offset,) * len(statistics.mean), (scale,) * len(statistics.mean)),
        "standardise": (statistics.mean, statistics.std),
        "percentile": (statistics.p02, tuple(np.subtract(statistics.p98, statistics.p02))),
    }[kind]
    return tuple(float(z - offset) / scale for z in zero), tuple(max(float(o) / scale, MIN_DIVISOR) for o in one)


def combine_inputs(inputs: Sequence[InputSpec]) -> InputSpec:
    """Return one input for those that the training images are each.

    Args:
        inputs: Of each sample, alike but for the names of bands, nodata and pixel size.

    Returns:
        With the names of bands and the nodata value that most have, the (lower) median of the pixel sizes, and their
        range.
    """
    sizes = sorted(source.gsd_m for source in inputs if source.gsd_m is not None)
    ranges = [source.gsd_range_m for source in inputs if source.gsd_range_m is not None]
    return replace(
        inputs[0],
        bands=most_common_value(source.bands for source in inputs),
        nodata=most_common_value(source.nodata for source in inputs),
        gsd_m=median_low(sizes) if sizes else None,
        gsd_range_m=(min(r[0] for r in ranges), max(r[1] for r in ranges)) if ranges else None,
    )


def most_common_value(values: Iterable[T]) -> T:
    """Return the most common value; of several the first one. NaN equals NaN here."""
    return most_common(values)[0][0]


def most_common(values: Iterable[T]) -> list[tuple[T, int]]:
    """Return each different value and how often it comes, the most common one first."""
    first: dict[str, T] = {}
    counts: Counter[str] = Counter()
    for value in values:
        first.setdefault(repr(value), value)
        counts[repr(value)] += 1
    return [(first[name], number) for name, number in counts.most_common()]
