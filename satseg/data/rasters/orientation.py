"""Reading images upright that are stored rotated or mirrored according to their header."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

TAG = 0x0112  # orientation, in TIFF and EXIF
SHORT = 3  # TIFF type of two bytes
PNG_CHUNK, RIFF_CHUNK = ">I4s", "<4sI"  # length and type; type and length
NORTHINGS = ("y", "lat", "latitude", "northing")  # names of the row coordinate in netCDF files
UPSIDE_DOWN = 4
MAX_ENTRIES, MAX_CHUNKS = 4096, 2**17  # read per directory and per file


class Turn(NamedTuple):
    """Transform from stored to upright pixels: swap rows and columns first, then reverse either."""

    swap: bool
    reverse_rows: bool
    reverse_cols: bool


BOTTOMUP_VARIABLE = "GDAL_NETCDF_BOTTOMUP"  # environment variable: whether the last stored row is north
TURNS = {
    2: Turn(False, False, True),
    3: Turn(False, True, True),
    4: Turn(False, True, False),
    5: Turn(True, False, False),
    6: Turn(True, False, True),
    7: Turn(True, True, True),
    8: Turn(True, True, False),
}


class UprightRaster:
    """An open raster whose pixels are read upright; everything but sizes and pixels is passed through.

    Args:
        source: The open raster.
        turn: Transform from its stored pixels.
    """

    def __init__(self, source: Any, turn: Turn) -> None:
        self._source, self._turn = source, turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self._source.height if self._turn.swap else self._source.width)

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self._source.width if self._turn.swap else self._source.height)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def read(self, *bands: Any, **part: Any) -> np.ndarray:
        """Read bands as rasterio's `read` does."""
        return self._upright(self._source.read(*bands, **self._stored(part)))

    def read_masks(self, *bands: Any, **part: Any) -> np.ndarray:
        """Read masks as rasterio's `read_masks` does."""
        return self._upright(self._source.read_masks(*bands, **self._stored(part)))

    def _stored(self, part: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a read in stored rows and columns."""
        stored, turn = dict(part), self._turn
        window, shape = part.get("window"), part.get("out_shape")
        if window is not None:
            col = self.width - window.col_off - window.width if turn.reverse_cols else window.col_off
            row = self.height - window.row_off - window.height if turn.reverse_rows else window.row_off
            swapped = Window(row, col, window.height, window.width)
            stored["window"] = swapped if turn.swap else Window(col, row, window.width, window.height)
        if shape is not None and turn.swap:
            stored["out_shape"] = (*shape[:-2], shape[-1], shape[-2])
        return stored

    def _upright(self, pixels: np.ndarray) -> np.ndarray:
        turn = self._turn
        pixels = pixels.swapaxes(-1, -2) if turn.swap else pixels
        rows, cols = (slice(None, None, -1 if reverse else 1) for reverse in turn[1:])
        return np.ascontiguousarray(pixels[..., rows, cols])


def upright(source: Any, path: Path | str) -> Any:
    """Return an open raster whose pixels are read upright; unchanged if it is not stored rotated.

    A georeferenced raster is read as stored, as its coordinates refer to the stored pixels.

    Args:
        source: The open raster.
        path: Its file; for URLs only the orientation of JPEGs is known.
    """
    turn = TURNS.get(_orientation(source, path) or 1)
    return source if turn is None else UprightRaster(source, turn)


def as_stored(source: Any) -> Any:
    """Return an open raster with the rows and columns of the file, undoing `upright`."""
    return source._source if isinstance(source, UprightRaster) else source


def is_turned(source: Any, path: Path | str) -> bool | None:
    """Return whether an open raster is stored rotated; None if it is unknown which of its rows is north.

    Args:
        source: As returned by `upright`.
        path: As for `upright`.
    """
    return True if isinstance(source, UprightRaster) else False if _orientation(source, path) else None


def _orientation(source: Any, path: Path | str) -> int | None:
    if not source.transform.is_identity or source.gcps[0] or source.rpcs:
        return 1
    if source.driver == "netCDF":
        return _of_netcdf(path)
    if source.driver == "JPEG":
        tag = source.tags().get("EXIF_Orientation", "").strip()
        return int(tag) if tag.isdecimal() else 1
    reader = {"GTiff": _of_tiff, "PNG": _of_png, "WEBP": _of_webp}.get(source.driver)
    if reader is None:
        return 1
    try:
        with Path(path).open("rb") as file:
            return reader(file)
    except (OSError, struct.error, ValueError, OverflowError):  # a URL, or no orientation
        return 1


def _of_netcdf(path: Path | str) -> int | None:
    """Return the orientation by row coordinates: if GDAL knows none, it takes the last stored row for north."""
    if BOTTOMUP_VARIABLE in os.environ:  # decided by the user
        return 1
    for name in NORTHINGS:
        try:
            with rasterio.open(f'NETCDF:"{path}":{name}') as source:
                values = source.read().ravel().astype(float)
        except RasterioError:
            continue
        if len(values) > 1 and (values[1:] < values[:-1]).all():
            return UPSIDE_DOWN
        return 1 if len(values) > 1 and (values[1:] > values[:-1]).all() else None
    return None


# Pillow knows the orientation of a PNG only after decoding all of it, and refuses very large images.
def _of_png(file: BinaryIO) -> int:
    return _of_chunk(_chunks(file, 8, PNG_CHUNK), b"eXIf")


def _of_webp(file: BinaryIO) -> int:
    return _of_chunk(_chunks(file, 12, RIFF_CHUNK), b"EXIF")


def _of_chunk(chunks: Iterator[tuple[bytes, BinaryIO]], wanted: bytes) -> int:
    for kind, file in chunks:
        if kind == wanted:
            start = file.tell()
            file.seek(start + 6 * (file.read(6) == b"Exif\0\0"))
            return _of_tiff(file)
    return 1


def _chunks(file: BinaryIO, start: int, form: str) -> Iterator[tuple[bytes, BinaryIO]]:
    """Yield the type of each chunk, with the file positioned at its content."""
    end = file.seek(0, os.SEEK_END)
    for _ in range(MAX_CHUNKS):
        if start + 8 > end:
            return
        file.seek(start)
        first, second = struct.unpack(form, file.read(8))
        kind, length = (first, second) if isinstance(first, bytes) else (second, first)
        yield kind, file
        start += 8 + length + (4 if form == PNG_CHUNK else length % 2)  # checksum, or RIFF padding


def _of_tiff(file: BinaryIO) -> int:
    """Return the orientation in the first directory of a TIFF that starts at the current position."""
    start = file.tell()
    order = "<" if file.read(2) == b"II" else ">"
    (version,) = struct.unpack(f"{order}H", file.read(2))
    big = version == 43
    if big:
        file.read(4)
    (offset,) = struct.unpack(f"{order}{'Q' if big else 'I'}", file.read(8 if big else 4))
    file.seek(start + offset)
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))
    for _ in range(min(count, MAX_ENTRIES)):
        entry = file.read(20 if big else 12)
        tag, kind = struct.unpack(f"{order}HH", entry[:4])
        if tag == TAG and kind == SHORT:
            (value,) = struct.unpack(f"{order}H", entry[12 if big else 8 :][:2])
            return int(value)
    return 1
