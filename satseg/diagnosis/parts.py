"""Ways to take over only some of what a donor has: parts of the picture, by place, and kinds of content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from satseg.attribution.composites import (
    MARGIN,
    Picture,
    swapped,
    swapped_bands,
    swapped_coarse,
    swapped_fine,
    swapped_level,
    toned,
)
from satseg.data.rasters.raster import Window
from satseg.diagnosis.swaps import Change, Variant, changed

EDGES = (0.03, 0.06, 0.12, 0.25, 0.5)  # of the rows, or columns
CORNERS = (0.1, 0.2, 0.3, 0.5)  # of the sides
FRAMES = (0.03, 0.06, 0.12)  # of the shorter side
RING = 24  # pixels beyond the object's margin that count as beside it


class Try(NamedTuple):
    """One way to take over only some of it: its words, a box or None, and how to make it."""

    words: str
    box: Window | None
    mask: Callable[[Picture], np.ndarray] | None
    make: Callable[[Picture, Picture], Variant]


def places_of(first: Picture, whole: bool) -> list[Try]:
    """Return parts of the picture, by their place."""
    found = [*_blocks(first, 4), *_blocks(first, 3), *_blocks(first, 2), *rings()]
    if not whole:
        return found
    return [*found, *_along_edges(first, EDGES), *_corners(first, CORNERS), *_borders(first, FRAMES)]


def edges_of(first: Picture) -> list[Try]:
    """Return a quarter of the picture along each edge, its border, and a corner of a quarter of the sides each."""
    return [*_along_edges(first, (0.25,)), *_borders(first, (0.08,)), *_corners(first, (0.25,))]


def rings() -> list[Try]:
    """Return what lies beside objects, and what lies farther away."""

    def ring(picture: Picture) -> np.ndarray:
        beside: np.ndarray = distance_transform_edt(~picture.own) <= MARGIN + RING
        return beside

    return [
        _masked(f"what lies within {MARGIN + RING} pixels of the object", None, ring),
        _masked(f"what lies farther than {MARGIN + RING} pixels from the object", None, lambda p: ~ring(p)),
    ]


def everything(change: Change) -> Try:
    """Return all that a change takes over."""
    words = {
        Change.SURROUNDINGS: "the surroundings as a whole",
        Change.TONE: "the brightness, colour and contrast of the whole picture",
        Change.SPECTRUM: "the sharpness, grain or pattern of the whole picture",
        Change.POSITION: "the place in the picture",
    }[change]
    return Try(words, None, None, lambda r, d: changed(change, r, d))


def simpler(change: Change, bands: Sequence[str]) -> Iterator[Try]:
    """Give ways that take over less than a change, the least first."""

    def tone(chosen: Sequence[int] | None) -> Callable[[Picture, Picture], Variant]:
        return lambda r, d: (toned(r, d, chosen, spread=False), r.valid, r.region)

    if change is Change.TONE:
        if len(bands) > 1:
            for index, band in enumerate(bands):
                yield Try(f"the brightness of the whole picture in band {band}", None, None, tone([index]))
        yield Try("the brightness and colour of the whole picture", None, None, tone(None))


def kinds_of(bands: Sequence[str], mask: Callable[[Picture], np.ndarray] | None) -> Iterator[Try]:
    """Give ways to take over one kind of content of a part, or of all of the surroundings."""

    def within(make: Callable[[Picture, Picture], np.ndarray]) -> Callable[[Picture, Picture], Variant]:
        def made(r: Picture, d: Picture) -> Variant:
            image = make(r, d)
            return (image if mask is None else np.where(mask(r), image, r.image)), r.valid, r.region

        return made

    yield Try("brightness and colour", None, None, within(swapped_level))
    yield Try("coarse content", None, None, within(swapped_coarse))
    yield Try("fine texture", None, None, within(swapped_fine))
    if len(bands) > 1:
        for index, band in enumerate(bands):
            yield Try(f"band {band}", None, None, within(lambda r, d, index=index: swapped_bands(r, d, [index])))  # type: ignore[misc]


def rectangle(words: str, box: Window) -> Try:
    """Return what lies in a box."""
    return _masked(words, box, lambda picture: within_box(picture, box))


def quarters(box: Window) -> Iterator[Window]:
    """Give nine overlapping boxes of half the sides."""
    height, width = max(1, box.height // 2), max(1, box.width // 2)
    for down in (0, height // 2, box.height - height):
        for right in (0, width // 2, box.width - width):
            yield Window(box.col + right, box.row + down, width, height)


def within_box(picture: Picture, box: Window) -> np.ndarray:
    """Return a box as pixels (H, W), boolean."""
    inside = np.zeros(picture.valid.shape, bool)
    inside[box.row : box.row + box.height, box.col : box.col + box.width] = True
    return inside


def size_of(picture: Picture) -> tuple[int, int]:
    """Return height and width up to the last row and column with a valid pixel: what lies below is no image."""
    down, right = (np.flatnonzero(picture.valid.any(axis))[-1] + 1 for axis in (1, 0))
    return int(down), int(right)


def _along_edges(first: Picture, shares: Sequence[float]) -> Iterator[Try]:
    height, width = size_of(first)
    for share in shares:
        rows, cols = max(1, round(share * height)), max(1, round(share * width))
        yield rectangle(f"the highest {rows} rows", Window(0, 0, width, rows))
        yield rectangle(f"the lowest {rows} rows", Window(0, height - rows, width, rows))
        yield rectangle(f"the leftmost {cols} columns", Window(0, 0, cols, height))
        yield rectangle(f"the rightmost {cols} columns", Window(width - cols, 0, cols, height))


def _corners(first: Picture, shares: Sequence[float]) -> Iterator[Try]:
    height, width = size_of(first)
    for share in shares:
        rows, cols = max(1, round(share * height)), max(1, round(share * width))
        for up, row in (("upper", 0), ("lower", height - rows)):
            for side, col in (("left", 0), ("right", width - cols)):
                words = f"the {up} {side} corner, {cols} x {rows} pixels"
                yield rectangle(words, Window(col, row, cols, rows))


def _borders(first: Picture, shares: Sequence[float]) -> Iterator[Try]:
    for share in shares:
        depth = max(1, round(share * min(size_of(first))))
        yield _masked(f"the border, {depth} pixels deep", None, _frame(depth))


def _blocks(first: Picture, number: int) -> Iterator[Try]:
    height, width = size_of(first)
    for i in range(number):
        for j in range(number):
            top, bottom = round(i * height / number), round((i + 1) * height / number)
            left, right = round(j * width / number), round((j + 1) * width / number)
            box = Window(left, top, right - left, bottom - top)
            yield rectangle(f"columns {left} to {right - 1}, rows {top} to {bottom - 1}", box)


def _frame(depth: int) -> Callable[[Picture], np.ndarray]:
    def mask(picture: Picture) -> np.ndarray:
        outer = np.ones(picture.valid.shape, bool)
        height, width = size_of(picture)
        outer[depth : height - depth, depth : width - depth] = False
        return outer

    return mask


def _masked(words: str, box: Window | None, mask: Callable[[Picture], np.ndarray]) -> Try:
    return Try(words, box, mask, lambda r, d: (swapped(r, d, mask(r)), r.valid, r.region))
