"""Numbers that stand for missing pixels although nobody declared them, such as -9999 among reflectances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from satseg.validate.facts import Extreme, Facts, ImageFacts
from satseg.validate.findings import Finding, Severity, count, percent

SHARE = 0.005  # of an image's pixels that have the number
FAR = 4  # spans of the other numbers between it and the next one
NEGATIVE = 1.5  # the same, where it alone is below 0
LOWEST_INDEX = -1  # NDVI and its kin have it where one band is 0
PLAUSIBLE = 20  # the same, where it may be dark water or a saturated pixel
WRECKING = 10  # spans from which a fill makes nothing of the other numbers' scale
SPAN = (1, 99)  # percentiles of the other numbers
MEASURED = 16  # different other numbers that make a measurement; categories are told elsewhere
CEILINGS = (1, 255, 1023, 4095, 10_000, 16_383)  # where sensors and products saturate


class Fill(NamedTuple):
    """A number that one band of one image is filled with, and how far the next one is, in spans."""

    facts: Facts
    band: int
    value: float
    share: float
    distance: float


def check_fills(images: Sequence[tuple[Facts, ImageFacts]]) -> list[Finding]:
    """Find a repeated lowest or highest number that lies far from all others.

    Args:
        images: Those with usable pixels.
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
        if end.number >= SHARE * image.usable
    ]
    span = _span(images, band, {end.value for _, end, _ in repeated})
    for facts, end, share in repeated:
        distance = abs(end.next - end.value) / span if np.isfinite(end.next) else 0.0
        if distance > _needed(end):
            yield Fill(facts, band, end.value, share, distance)


def _span(images: Sequence[tuple[Facts, ImageFacts]], band: int, without: set[float]) -> float:
    """Return how far the other numbers reach, in all images; infinite where they do not measure."""
    drawn = np.concatenate([image.drawn[band] for _, image in images]).astype(np.float64)
    rest = drawn[~np.isin(drawn, list(without))] if without else drawn
    if len(np.unique(rest)) < MEASURED:
        return float("inf")
    low, high = np.percentile(rest, SPAN)
    return float(high - low) or float("inf")


def _needed(end: Extreme) -> float:
    if end.value < 0 <= end.next and end.value != LOWEST_INDEX:
        return NEGATIVE
    is_dark, is_bright = 0 <= end.value < end.next, end.value > end.next and end.value in CEILINGS
    return PLAUSIBLE if is_dark or is_bright else FAR


def _finding(fills: Sequence[Fill], widths: set[int]) -> Finding:
    files = list(dict.fromkeys(f.facts.image_file for f in fills))
    by_value: dict[float, list[Fill]] = defaultdict(list)
    for fill in fills:
        by_value[fill.value].append(fill)
    told = "; ".join(f"{_number(value)} in {_extent(some, widths)}" for value, some in by_value.items())
    return Finding(
        "undeclared_nodata",
        Severity.ERROR if max(f.distance for f in fills) > WRECKING else Severity.WARNING,
        f"{count(len(files), 'image')} with a number far from all others that is not declared as nodata: {told}",
        "Numbers that stand for missing pixels are declared: else they spoil the statistics, and count.",
        _repair(list(by_value)),
        tuple(files),
    )


def _extent(fills: Sequence[Fill], widths: set[int]) -> str:
    bands = sorted({f.band + 1 for f in fills})
    words = "every band" if {len(bands)} == widths else f"band {', '.join(map(str, bands))}"
    return f"up to {percent(max(f.share for f in fills))} of the pixels of {words}"


def _repair(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"If these pixels are missing, use dataset.nodata={_number(values[0])}, or declare it in the files."
    return "If these pixels are missing, declare each file's own value in it (gdal_edit.py -a_nodata)."


def _number(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.9g}"
