"""Images that are stored turned, as their header says: read upright, as people see and label them."""

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

TAG = 0x0112  # of TIFF and EXIF
SHORT = 3  # TIFF's type of two bytes
PNG_CHUNK, RIFF_CHUNK = ">I4s", "<4sI"  # length and kind, kind and length
NORTHINGS = ("y", "lat", "latitude", "northing")  # what netCDF files call the coordinates of rows
UPSIDE_DOWN = 4
MAX_ENTRIES, MAX_CHUNKS = 4096, 2**17  # of a directory and of a file, that are looked at


class Turn(NamedTuple):
    """How stored pixels become upright ones: rows and columns swapped first, then either reversed."""

    swap: bool
    reverse_rows: bool
    reverse_cols: bool


NORTH = "GDAL_NETCDF_BOTTOMUP"  # of the environment: whether the last row that is stored is north
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
    """An open raster whose pixels are read upright; all but sizes and pixels is as it is stored.

    Args:
        source: The open raster.
        turn: How it is stored.
    """

    def __init__(self, source: Any, turn: Turn) -> None:
        self._source, self._turn = source, turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    @property
    def width(self) -> int:
        """Pixels of a row."""
        return int(self._source.height if self._turn.swap else self._source.width)

    @property
    def height(self) -> int:
        """Pixels of a column."""
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
        """Return what is to be read, in stored rows and columns."""
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
    """Return an open raster so that its pixels are read upright, as it is where nothing says otherwise.

    A raster with coordinates is taken as it is stored: these belong to the stored pixels.

    Args:
        source: The open raster.
        path: Its file; of a URL only what a JPEG says is known.
    """
    turn = TURNS.get(_orientation(source, path) or 1)
    return source if turn is None else UprightRaster(source, turn)


def as_stored(source: Any) -> Any:
    """Return an open raster whose rows and columns are those of the file, of one that may be read `upright`."""
    return source._source if isinstance(source, UprightRaster) else source


def is_turned(source: Any, path: Path | str) -> bool | None:
    """Tell whether an open raster is stored turned; None where nothing tells which of its rows is north.

    Args:
        source: As `upright` returns it.
        path: As for `upright`.
    """
    return True if isinstance(source, UprightRaster) else False if _orientation(source, path) else None


def _orientation(source: Any, path: Path | str) -> int | None:
    if not source.transform.is_identity or source.gcps[0] or source.rpcs:
        return 1
    if source.driver == "netCDF":
        return _of_netcdf(path)
    if source.driver == "JPEG":
        said = source.tags().get("EXIF_Orientation", "").strip()
        return int(said) if said.isdecimal() else 1
    reader = {"GTiff": _of_tiff, "PNG": _of_png, "WEBP": _of_webp}.get(source.driver)
    if reader is None:
        return 1
    try:
        with Path(path).open("rb") as file:
            return reader(file)
    except (OSError, struct.error, ValueError, OverflowError):  # a URL, or no such tag
        return 1


def _of_netcdf(path: Path | str) -> int | None:
    """Look at the coordinates of rows: GDAL, where it knows none, takes the last row that is stored for north."""
    if NORTH in os.environ:  # the user knows
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


# Pillow tells the same of a PNG only once all of it is decoded, and refuses images that are large on purpose.
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
    """Yield the kind of each chunk, with the file at its content."""
    end = file.seek(0, os.SEEK_END)
    for _ in range(MAX_CHUNKS):
        if start + 8 > end:
            return
        file.seek(start)
        first, second = struct.unpack(form, file.read(8))
        kind, length = (first, second) if isinstance(first, bytes) else (second, first)
        yield kind, file
        start += 8 + length + (4 if form == PNG_CHUNK else length % 2)  # a checksum; or RIFF's padding


def _of_tiff(file: BinaryIO) -> int:
    """Return the orientation in the first directory of a TIFF that begins here."""
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
