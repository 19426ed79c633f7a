"""Partial swaps: parts of a donor's picture by location, or kinds of its content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from satseg.attribution.composites import (
    MARGIN,
    Picture,
    match_tone,
    swap_bands,
    swap_coarse,
    swap_fine,
    swap_level,
    swap_surroundings,
)
from satseg.data.rasters.header import Window
from satseg.diagnosis.swaps import Change, Variant, apply_change

EDGES = (0.03, 0.06, 0.12, 0.25, 0.5)  # of the rows, or columns
CORNERS = (0.1, 0.2, 0.3, 0.5)  # of the side lengths
FRAMES = (0.03, 0.06, 0.12)  # of the shorter side
RING = 24  # pixels beyond the object's margin that count as near it


class PartialSwap(NamedTuple):
    """A partial swap: its description, a box or None, a mask or None, and the function that makes it."""

    description: str
    box: Window | None
    mask: Callable[[Picture], np.ndarray] | None
    make: Callable[[Picture, Picture], Variant]


def location_swaps(first: Picture, whole_images: bool) -> list[PartialSwap]:
    """Return swaps of parts of the picture by location."""
    found = [*_blocks(first, 4), *_blocks(first, 3), *_blocks(first, 2), *ring_swaps()]
    if not whole_images:
        return found
    return [*found, *_along_edges(first, EDGES), *_corners(first, CORNERS), *_borders(first, FRAMES)]


def edge_swaps(first: Picture) -> list[PartialSwap]:
    """Return swaps of the border, and of each edge and corner to a quarter of the side lengths."""
    return [*_along_edges(first, (0.25,)), *_borders(first, (0.08,)), *_corners(first, (0.25,))]


def ring_swaps() -> list[PartialSwap]:
    """Return swaps of what lies near the object, and of what lies farther away."""

    def ring(picture: Picture) -> np.ndarray:
        beside: np.ndarray = distance_transform_edt(~picture.own) <= MARGIN + RING
        return beside

    return [
        _masked(f"what lies within {MARGIN + RING} pixels of the object", None, ring),
        _masked(f"what lies farther than {MARGIN + RING} pixels from the object", None, lambda p: ~ring(p)),
    ]


def full_swap(change: Change) -> PartialSwap:
    """Return the complete swap of a kind."""
    description = {
        Change.SURROUNDINGS: "the surroundings as a whole",
        Change.TONE: "the brightness, colour and contrast of the whole image",
        Change.SPECTRUM: "the sharpness, grain or pattern of the whole image",
        Change.POSITION: "the position in the image",
    }[change]
    return PartialSwap(description, None, None, lambda r, d: apply_change(change, r, d))


def lesser_swaps(change: Change, bands: Sequence[str]) -> Iterator[PartialSwap]:
    """Yield swaps that change less than a whole one, smallest first."""

    def tone(chosen: Sequence[int] | None) -> Callable[[Picture, Picture], Variant]:
        return lambda r, d: (match_tone(r, d, chosen, spread=False), r.valid, r.region)

    if change is Change.TONE:
        if len(bands) > 1:
            for index, band in enumerate(bands):
                yield PartialSwap(f"the brightness of the whole image in band {band}", None, None, tone([index]))
        yield PartialSwap("the brightness and colour of the whole image", None, None, tone(None))


def content_swaps(bands: Sequence[str], mask: Callable[[Picture], np.ndarray] | None) -> Iterator[PartialSwap]:
    """Yield swaps of one kind of content, in a part or in all of the surroundings."""

    def within(make: Callable[[Picture, Picture], np.ndarray]) -> Callable[[Picture, Picture], Variant]:
        def made(r: Picture, d: Picture) -> Variant:
            image = make(r, d)
            return (image if mask is None else np.where(mask(r), image, r.image)), r.valid, r.region

        return made

    yield PartialSwap("brightness and colour", None, None, within(swap_level))
    yield PartialSwap("coarse content", None, None, within(swap_coarse))
    yield PartialSwap("fine texture", None, None, within(swap_fine))
    if len(bands) > 1:
        for index, band in enumerate(bands):
            yield PartialSwap(f"band {band}", None, None, within(lambda r, d, index=index: swap_bands(r, d, [index])))  # type: ignore[misc]


def rectangle(description: str, box: Window) -> PartialSwap:
    """Return the swap of what lies in a box."""
    return _masked(description, box, lambda picture: box_mask(picture, box))


def overlapping_quarters(box: Window) -> Iterator[Window]:
    """Yield nine overlapping boxes of half the side lengths."""
    height, width = max(1, box.height // 2), max(1, box.width // 2)
    for down in (0, height // 2, box.height - height):
        for right in (0, width // 2, box.width - width):
            yield Window(box.col + right, box.row + down, width, height)


def box_mask(picture: Picture, box: Window) -> np.ndarray:
    """Return a box as a boolean mask (H, W)."""
    inside = np.zeros(picture.valid.shape, bool)
    inside[box.row : box.row + box.height, box.col : box.col + box.width] = True
    return inside


def valid_extent(picture: Picture) -> tuple[int, int]:
    """Return height and width up to the last row and column with a valid pixel; the rest is padding."""
    down, right = (np.flatnonzero(picture.valid.any(axis))[-1] + 1 for axis in (1, 0))
    return int(down), int(right)


def _along_edges(first: Picture, shares: Sequence[float]) -> Iterator[PartialSwap]:
    height, width = valid_extent(first)
    for share in shares:
        rows, cols = max(1, round(share * height)), max(1, round(share * width))
        yield rectangle(f"the highest {rows} rows", Window(0, 0, width, rows))
        yield rectangle(f"the lowest {rows} rows", Window(0, height - rows, width, rows))
        yield rectangle(f"the leftmost {cols} columns", Window(0, 0, cols, height))
        yield rectangle(f"the rightmost {cols} columns", Window(width - cols, 0, cols, height))


def _corners(first: Picture, shares: Sequence[float]) -> Iterator[PartialSwap]:
    height, width = valid_extent(first)
    for share in shares:
        rows, cols = max(1, round(share * height)), max(1, round(share * width))
        for up, row in (("upper", 0), ("lower", height - rows)):
            for side, col in (("left", 0), ("right", width - cols)):
                description = f"the {up} {side} corner, {cols} x {rows} pixels"
                yield rectangle(description, Window(col, row, cols, rows))


def _borders(first: Picture, shares: Sequence[float]) -> Iterator[PartialSwap]:
    for share in shares:
        depth = max(1, round(share * min(valid_extent(first))))
        yield _masked(f"the border, {depth} pixels deep", None, _frame(depth))


def _blocks(first: Picture, number: int) -> Iterator[PartialSwap]:
    height, width = valid_extent(first)
    for i in range(number):
        for j in range(number):
            top, bottom = round(i * height / number), round((i + 1) * height / number)
            left, right = round(j * width / number), round((j + 1) * width / number)
            box = Window(left, top, right - left, bottom - top)
            yield rectangle(f"columns {left} to {right - 1}, rows {top} to {bottom - 1}", box)


def _frame(depth: int) -> Callable[[Picture], np.ndarray]:
    def mask(picture: Picture) -> np.ndarray:
        outer = np.ones(picture.valid.shape, bool)
        height, width = valid_extent(picture)
        outer[depth : height - depth, depth : width - depth] = False
        return outer

    return mask


def _masked(description: str, box: Window | None, mask: Callable[[Picture], np.ndarray]) -> PartialSwap:
    return PartialSwap(description, box, mask, lambda r, d: (swap_surroundings(r, d, mask(r)), r.valid, r.region))
