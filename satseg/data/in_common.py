"""What all images of a training split say of themselves, where a single one would speak for the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median_low
from typing import TypeVar

from satseg.spec import InputSpec

T = TypeVar("T")


def in_common(inputs: Sequence[InputSpec]) -> InputSpec:
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
        bands=usual(source.bands for source in inputs),
        nodata=usual(source.nodata for source in inputs),
        gsd_m=median_low(sizes) if sizes else None,
        gsd_range_m=(min(r[0] for r in ranges), max(r[1] for r in ranges)) if ranges else None,
    )


def usual(values: Iterable[T]) -> T:
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
