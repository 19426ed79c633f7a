"""Scan of a sample: one pass over its files, by parts, into a compact record."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from satseg import signals
from satseg.data.labels.reader import LabelReader, warp_labels
from satseg.data.rasters.bands import band_numbers
from satseg.data.rasters.header import RasterInfo, Window, read_info, read_real_info, window_transform
from satseg.data.rasters.opening import CACHE_BYTES, open_raster, quiet
from satseg.data.rasters.raster import read_open_image
from satseg.data.rasters.validity import Validity
from satseg.data.samples import Sample
from satseg.errors import DataError, RasterReadError, SatsegError
from satseg.validate.facts import Facts, ScanPlan
from satseg.validate.image_tally import ROW_STEP, ImageTally
from satseg.validate.mask_tally import MaskTally

MAX_PART_VALUES = 24_000_000  # values of an image in memory at a time
PIECE_PIXELS = 2**19  # measured at a time
BLOCK = 256  # rows of a tile, so that each tile is read once
JPEG_END = b"\xff\xd9"
JPEG_TAIL = 4096  # bytes that a camera may append to a JPEG
LOSSY = ("JPEG", "YCBCR JPEG")

Part = tuple[np.ndarray, np.ndarray]


def scan(sample: Sample, plan: ScanPlan) -> Facts:
    """Read a sample's image and mask; errors in a file are recorded, and the rest is still read.

    Args:
        sample: The pair.
        plan: Settings for reading.
    """
    facts = Facts(sample)
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES),
        quiet(),
    ):  # encloses the two files' environments, which close in any order
        image = _recording_errors(facts, facts.image_file, _header, sample.image, plan.bands)
        mask = _recording_errors(facts, facts.mask_file, read_real_info, sample.mask)
        facts.headers = image, mask
        facts.image_info, facts.mask_info = image and part_of(image, sample.window), mask
        is_warped = _is_warped(sample.mask, image, plan) if image and mask else None
        if facts.image_info and mask and is_warped is not None:
            facts.mask_info = _on_grid(mask, facts.image_info)
            _read(facts, plan, facts.image_info, facts.mask_info, is_warped)
        else:
            _read(facts, plan, facts.image_info, None)
            _read(facts, plan, None, mask)
        if facts.sample.band_files and facts.image_file in facts.faults:
            _attribute_fault(facts)
    return facts


def part_of(image: RasterInfo, window: Window | None) -> RasterInfo:
    """Return the header of a part of an image, as if it were a file."""
    if window is None:
        return image
    return replace(image, width=window.width, height=window.height, transform=window_transform(image, window))


def _on_grid(mask: RasterInfo, image: RasterInfo) -> RasterInfo:
    return replace(mask, width=image.width, height=image.height, crs=image.crs, transform=image.transform)


def _is_warped(path: Path, image: RasterInfo, plan: ScanPlan) -> bool | None:
    """Return whether a mask is warped onto its image; None if it cannot belong to it by the headers."""
    try:
        return LabelReader(plan.scheme).check(path, image)
    except DataError:
        return None


def _recording_errors(facts: Facts, file: str, read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except SatsegError as error:
        signals.check()  # the error may come from a signal
        facts.faults[file] = error
        return None


def _attribute_fault(facts: Facts) -> None:
    """Attribute the error of a stack to those of its files that cannot be read."""
    files, fault = facts.sample.band_files, facts.faults.pop(facts.image_file)
    for file in files:
        _recording_errors(facts, str(file), _read_through, file)
    if not facts.faults.keys() & set(map(str, files)):
        facts.faults[facts.image_file] = fault


def _read_through(path: Path) -> None:
    info = read_info(path)
    for _ in _parts(path, list(_windows(info, info.count))):
        pass


def _header(path: Path, bands: Any) -> RasterInfo:
    info = read_real_info(path)
    band_numbers(info, bands)
    return info


def _read(
    facts: Facts, plan: ScanPlan, image: RasterInfo | None, mask: RasterInfo | None, warped: bool = False
) -> None:
    """Read the given files together, and add the facts of those that could be read completely."""
    info = image or mask
    if info is None:
        return
    sample, bands = facts.sample, list(band_numbers(image, plan.bands)) if image else []
    corner = (sample.window.col, sample.window.row) if sample.window and image else (0, 0)
    windows = list(_windows(info, len(bands) or info.count))
    of_image = None
    if image:
        read = replace(image, dtype=image.dtype_of(bands))
        of_image = ImageTally(read, len(bands), plan.drawn, sample.name)
    of_mask = MaskTally(mask, plan.scheme, is_lossy(sample.mask)) if mask else None
    with (
        closing(_parts(sample.image if image else None, windows, corner, bands, plan.nodata)) as images,
        closing(_labels(facts, windows, corner, warped) if mask else _parts(None, [])) as masks,
    ):
        for piece in (piece for window in windows for piece in _pieces(window)):
            pixels = _recording_errors(facts, facts.image_file, next, images, None)
            labels = _recording_errors(facts, facts.mask_file, next, masks, None)
            classes = None
            if of_mask and labels:
                classes = _recording_errors(facts, facts.mask_file, of_mask.add, *labels, pixels[1] if pixels else None)
            if of_image and pixels:
                of_image.add(piece, pixels[0], pixels[1], classes)
    if of_image and facts.image_file not in facts.faults:
        facts.image = of_image.facts()
    if of_mask and facts.mask_file not in facts.faults:
        facts.mask = of_mask.facts()


def _windows(info: RasterInfo, bands: int) -> Iterator[Window]:
    rows = max(MAX_PART_VALUES // (info.width * bands), 1)
    rows = max(rows // BLOCK, 1) * BLOCK if rows < info.height else info.height
    for row in range(0, info.height, rows):
        yield Window(0, row, info.width, min(rows, info.height - row))


def _pieces(window: Window) -> Iterator[Window]:
    """Divide a window that is read at once into pieces that are measured at once, which takes much more memory."""
    rows = max(PIECE_PIXELS // window.width // ROW_STEP, 1) * ROW_STEP
    for row in range(window.row, window.row + window.height, rows):
        yield Window(0, row, window.width, min(rows, window.row + window.height - row))


def _parts(
    path: Path | None,
    windows: list[Window],
    corner: tuple[int, int] = (0, 0),
    bands: list[int] | None = None,
    nodata: float | None = None,
) -> Generator[Part]:
    """Yield pieces of a file for windows relative to a given upper left corner."""
    if path is None:
        return
    _check_end(path)
    with open_raster(path) as source:
        validity = Validity.of(source)
        numbers = bands or [n for n in source.indexes if n not in validity.alpha]
        for window in windows:
            yield from _split_pieces(
                window, *read_open_image(source, _shifted(window, corner), numbers, nodata, validity=validity)
            )


def _labels(facts: Facts, windows: list[Window], corner: tuple[int, int], warped: bool) -> Generator[Part]:
    image, mask = facts.headers[0], facts.sample.mask
    if not warped or image is None:
        yield from _parts(mask, windows, corner)
        return
    for window in windows:
        yield from _split_pieces(window, *warp_labels(mask, image, _shifted(window, corner)))


def _shifted(window: Window, corner: tuple[int, int]) -> Window:
    return Window(window.col + corner[0], window.row + corner[1], window.width, window.height)


def _split_pieces(window: Window, pixels: np.ndarray, valid: np.ndarray) -> Iterator[Part]:
    for piece in _pieces(window):
        rows = slice(piece.row - window.row, piece.row - window.row + piece.height)
        yield pixels[:, rows], valid[rows]


def _check_end(path: Path) -> None:
    """Raise an error for a truncated JPEG, whose missing part would be read as grey."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - JPEG_TAIL))
        if JPEG_END not in file.read():
            raise RasterReadError(f"{path} is truncated (the JPEG end marker is missing); copy or download it again.")


def is_lossy(path: Path) -> bool:
    """Return whether a file's compression is lossy."""
    with open_raster(path) as source:
        compression = source.compression.value if source.compression else ""
        return source.driver == "JPEG" or compression in LOSSY
