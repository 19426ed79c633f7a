"""Assumptions about a dataset, reported so that users can correct them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from satseg.data.input_spec import most_common
from satseg.data.rasters.bands import band_numbers
from satseg.data.rasters.opening import redacted
from satseg.data.reader import WHOLE_FILE_PIXELS, SampleReader
from satseg.data.samples import Sample
from satseg.files import size_text

Splits = Mapping[str, Sequence[Sample]]


def find_assumptions(splits: Splits, reader: SampleReader) -> list[str]:
    """Return the assumptions made about a dataset's files, one sentence each.

    Args:
        splits: Samples by split; the training split is not empty.
        reader: Reader of the samples.
    """
    return [
        *_transparency(splits, reader),
        *_band_names(splits, reader),
        *_nodata(splits, reader),
        *_rotated(splits, reader),
        *_warped(splits, reader),
        *_large_images(splits, reader),
    ]


def _transparency(splits: Splits, reader: SampleReader) -> list[str]:
    info = reader.info(splits["train"][0].image)
    there = range(1, len(info.band_names) + 1)
    alpha = [b for b in there if b not in info.bands]
    if not alpha or reader.bands is not None:
        return []
    return [f"band {alpha[0]} of the images is transparency (dataset.bands={list(there)} reads it as data)"]


def _rotated(splits: Splits, reader: SampleReader) -> list[str]:
    images = {s.image for own in splits.values() for s in own}
    turned = sorted(image for image in images if reader.info(image).turned)
    if not turned:
        return []
    return [f"{len(turned)} images, such as {turned[0].name}, are rotated upright as their headers say"]


def _band_names(splits: Splits, reader: SampleReader) -> list[str]:
    """Report bands whose names differ between images and that are therefore read by number."""
    infos = [reader.info(s.image) for s in splits["train"]]
    names = [tuple(info.band_names[n - 1] for n in band_numbers(info, reader.bands)) for info in infos]
    first, *others = most_common(names)
    if not others:
        return []
    other = next(info for info, own in zip(infos, names, strict=True) if own == others[0][0])
    return [
        f"the bands are named {', '.join(first[0])} in {first[1]} training images, but otherwise in "
        f"{len(names) - first[1]} ({', '.join(others[0][0])} in {redacted(other.path)}): they are read by number, and "
        "the model file has the most common names (dataset.bands reads them by name)"
    ]


def _nodata(splits: Splits, reader: SampleReader) -> list[str]:
    """Report training images that declare different nodata values."""
    infos = [reader.info(s.image) for s in splits["train"]]
    declared = most_common(info.validity.common_nodata(band_numbers(info, reader.bands)) for info in infos)
    if reader.nodata is not None or len(declared) == 1:
        return []
    listed = ", ".join(f"{'none' if value is None else f'{value:g}'} in {number}" for value, number in declared)
    return [
        f"the training images declare different nodata values ({listed}): each is read with its own, and the model "
        "file has the most common one (dataset.nodata sets one for all)"
    ]


def _warped(splits: Splits, reader: SampleReader) -> list[str]:
    samples = [s for own in splits.values() for s in own]
    warped = {s.mask for s in samples if reader.labels.is_warped(s.mask, reader.info(s.image))}
    if not warped:
        return []
    return [
        f"{len(warped)} masks lie on other pixel grids than their images, such as {min(warped).name}: by their "
        "coordinates, each image pixel gets the nearest label"
    ]


def _large_images(splits: Splits, reader: SampleReader) -> list[str]:
    """Report large evaluation images, which are scored whole: all bands and class scores at once."""
    sizes = {s: reader.size(s) for split in ("val", "test") for s in splits.get(split, ())}
    large = max(sizes, key=lambda s: sizes[s][0] * sizes[s][1], default=None)
    if large is None or sizes[large][0] * sizes[large][1] <= WHOLE_FILE_PIXELS:
        return []
    values = len(reader.labels.scheme.names) + len(reader.bands or reader.info(large.image).bands)
    size = sizes[large][0] * sizes[large][1] * values * 4
    return [
        f"{large.name} is scored whole, in about {size_text(size)} of memory (dataset/split=blocks cuts large images)"
    ]
