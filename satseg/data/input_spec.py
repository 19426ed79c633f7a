"""Building the input spec of a dataset: its bands, scaling and standardisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median_low
from typing import Literal, TypeVar

import numpy as np

from satseg.data.loading_options import Normalisation
from satseg.data.rasters.header import RasterInfo
from satseg.spec import BandStatistics, InputSpec

Numbers = tuple[float, ...]
T = TypeVar("T")
MIN_DIVISOR = 1e-6  # keeps a constant band finite


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
    """Build the input spec of one image.

    Args:
        info: Header of the image.
        numbers: Its band numbers, in channel order.
        statistics: Statistics of the training split.
        scale: Divisor of raw numbers to unit scale; `auto` is 255 for 8-bit images, else the training split's range
            from the 2nd to the 98th percentile of all bands.
        offset: Subtracted before; `auto` is 0, or the lowest of these percentiles if that is negative and the scale is
            `auto` too.
        nodata: Value of missing pixels; by default the one that all bands of the file declare.
        normalisation: What is mapped to 0 and 1. `backbone`: mean, and mean plus deviation, of the backbone's
            pretraining; `scale`: 0 and 1 at unit scale; `standardise`: mean, and mean plus deviation, of each band;
            `percentile`: the 2nd and 98th percentile of each band; `auto`: `backbone` for 8-bit RGB, else
            `standardise`.

    Returns:
        The input; mean and std are None if they are the backbone's.
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
    """Return mean and standard deviation by band, at unit scale."""
    if kind == "backbone":
        return None, None
    zero, one = {  # as raw numbers
        "scale": ((offset,) * len(statistics.mean), (scale,) * len(statistics.mean)),
        "standardise": (statistics.mean, statistics.std),
        "percentile": (statistics.p02, tuple(np.subtract(statistics.p98, statistics.p02))),
    }[kind]
    return tuple(float(z - offset) / scale for z in zero), tuple(max(float(o) / scale, MIN_DIVISOR) for o in one)


def combine_inputs(inputs: Sequence[InputSpec]) -> InputSpec:
    """Combine the input specs of the training images into one.

    Args:
        inputs: One per sample; only band names, nodata and pixel size may differ.

    Returns:
        The input with the most common band names and nodata value, the (lower) median pixel size, and the range of
        pixel sizes.
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
    """Return the most common value, the first one if tied. NaN equals NaN here."""
    return most_common(values)[0][0]


def most_common(values: Iterable[T]) -> list[tuple[T, int]]:
    """Return the distinct values with their counts, the most common first."""
    first: dict[str, T] = {}
    counts: Counter[str] = Counter()
    for value in values:
        first.setdefault(repr(value), value)
        counts[repr(value)] += 1
    return [(first[name], number) for name, number in counts.most_common()]
