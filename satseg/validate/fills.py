"""Detection of undeclared fill values, such as -9999 among reflectances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from satseg.validate.facts import Extreme, Facts, ImageFacts
from satseg.validate.findings import Finding, Severity, count, percent

MIN_SHARE = 0.005  # of an image's pixels with the value
MIN_DISTANCE = 4  # to the next value, in spans of the other values
MIN_DISTANCE_NEGATIVE = 1.5  # the same, for the only negative value
LOWEST_INDEX = -1  # value of NDVI and similar indices where one band is 0
MIN_DISTANCE_PLAUSIBLE = 20  # the same, for a value that may be dark water or saturation
SEVERE_DISTANCE = 10  # spans above which a fill ruins the scale of the other values
SPAN_PERCENTILES = (1, 99)  # of the other values
MIN_DISTINCT = 16  # other values of a measurement; categories are reported elsewhere
SATURATION_VALUES = (1, 255, 1023, 4095, 10_000, 16_383)  # of sensors and products


class Fill(NamedTuple):
    """A fill value in one band of one image, and its distance to the next value in spans."""

    facts: Facts
    band: int
    value: float
    share: float
    distance: float


def check_fills(images: Sequence[tuple[Facts, ImageFacts]]) -> list[Finding]:
    """Find repeated minima or maxima far from all other values.

    Args:
        images: Those with valid pixels.
    """
    by_bands: dict[int, list[tuple[Facts, ImageFacts]]] = defaultdict(list)
    for facts, image in images:
        by_bands[len(image.extremes)].append((facts, image))
    fills = [f for bands, some in by_bands.items() for band in range(bands) for f in _fills(some, band)]
    return [_finding(fills, {bands for bands in by_bands if bands})] if fills else []


def _fills(images: Sequence[tuple[Facts, ImageFacts]], band: int) -> Iterator[Fill]:
    repeated = [
        (facts, end, end.number / image.usable)
        for facts, image in images
        for end in image.extremes[band]
        if end.number >= MIN_SHARE * image.usable
    ]
    span = _span(images, band, {end.value for _, end, _ in repeated})
    for facts, end, share in repeated:
        distance = abs(end.next - end.value) / span if np.isfinite(end.next) else 0.0
        if distance > _min_distance(end):
            yield Fill(facts, band, end.value, share, distance)


def _span(images: Sequence[tuple[Facts, ImageFacts]], band: int, without: set[float]) -> float:
    """Return the span of the other values over all images; infinite if they are no measurements."""
    drawn = np.concatenate([image.drawn[band] for _, image in images]).astype(np.float64)
    rest = drawn[~np.isin(drawn, list(without))] if without else drawn
    if len(np.unique(rest)) < MIN_DISTINCT:
        return float("inf")
    low, high = np.percentile(rest, SPAN_PERCENTILES)
    return float(high - low) or float("inf")


def _min_distance(end: Extreme) -> float:
    if end.value < 0 <= end.next and end.value != LOWEST_INDEX:
        return MIN_DISTANCE_NEGATIVE
    is_dark, is_bright = 0 <= end.value < end.next, end.value > end.next and end.value in SATURATION_VALUES
    return MIN_DISTANCE_PLAUSIBLE if is_dark or is_bright else MIN_DISTANCE


def _finding(fills: Sequence[Fill], widths: set[int]) -> Finding:
    files = list(dict.fromkeys(f.facts.image_file for f in fills))
    by_value: dict[float, list[Fill]] = defaultdict(list)
    for fill in fills:
        by_value[fill.value].append(fill)
    listed = "; ".join(f"{_format(value)} in {_extent(some, widths)}" for value, some in by_value.items())
    return Finding(
        "undeclared_nodata",
        Severity.ERROR if max(f.distance for f in fills) > SEVERE_DISTANCE else Severity.WARNING,
        f"{count(len(files), 'image')} with a value far from all others that is not declared as nodata: {listed}",
        "Fill values of missing pixels are declared: otherwise they count as data and distort the statistics.",
        _repair(list(by_value)),
        tuple(files),
    )


def _extent(fills: Sequence[Fill], widths: set[int]) -> str:
    bands = sorted({f.band + 1 for f in fills})
    words = "every band" if {len(bands)} == widths else f"band {', '.join(map(str, bands))}"
    return f"up to {percent(max(f.share for f in fills))} of the pixels of {words}"


def _repair(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"If these pixels are missing, use dataset.nodata={_format(values[0])}, or declare it in the files."
    return "If these pixels are missing, declare each file's own value in it (gdal_edit.py -a_nodata)."


def _format(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.9g}"
