"""Uploaded files: checked by their header before anything is decoded, and opened by one GDAL driver only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError

from satseg.data.rasters.deflated import block_bytes, check_deflated_blocks
from satseg.data.rasters.header import RasterInfo, read_info
from satseg.data.rasters.opening import NO_SIDECARS, open_raster, quiet
from satseg.data.rasters.orientation import as_stored
from satseg.errors import RasterReadError, UploadError, UploadTooLargeError, UploadTypeError
from satseg.files import size_text

ACCEPTED_TYPES = "PNG, JPEG, TIFF or GeoTIFF"
# The first bytes of a file decide which driver may open it, whatever its name.
DRIVERS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
}
SUFFIXES = {"GTiff": ".tif", "PNG": ".png", "JPEG": ".jpg"}
MAX_BANDS = 1000
MAX_BLOCK_BYTES = 512 << 20  # of one tile or strip, which is decoded as a whole
MAX_DIRECTORIES = 100  # of a TIFF: the image, its overviews and masks, further pages
MAX_NAME_LENGTH = 80


@dataclass(frozen=True)
class Limits:
    """Maximum size of an upload."""

    num_bytes: int
    num_pixels: int


@dataclass(frozen=True)
class Upload:
    """A checked file.

    Attributes:
        path: Path, chosen by the server.
        name: The client's name for the file, for messages only.
        info: Header of the file.
    """

    path: Path
    name: str
    info: RasterInfo

    @property
    def stem(self) -> str:
        """The name without its suffix, safe as a file name."""
        return stem_of(self.name)

    def public_text(self, message: object) -> str:
        """Return a one-line message with the client's name for the file, and no paths of the server."""
        text = str(message).replace(str(self.path), self.name).replace(str(self.path.parent), "")
        return " ".join(text.split())


def stem_of(name: str) -> str:
    """Return a name without its suffix, safe as a file name."""
    return re.sub(r"[^\w.-]+", "_", Path(name).stem).strip("._") or "image"


def check_upload(path: Path, name: str, limits: Limits) -> Upload:
    """Check a file, and rename it to the suffix of its format.

    Args:
        path: Path on the server, in a folder with nothing else of the client's.
        name: The client's name for the file.
        limits: Maximum size.

    Raises:
        UploadTypeError: If it is not an image of an accepted format.
        UploadTooLargeError: If it is too large, in bytes or decoded.
        UploadError: If it is damaged.
    """
    name = display_name(name)
    size = path.stat().st_size
    if size > limits.num_bytes:
        raise UploadTooLargeError(
            f"{name} has {size_text(size)}, but at most {size_text(limits.num_bytes)} are accepted."
        )
    driver = _driver(path, name)
    path = path.rename(path.with_suffix(SUFFIXES[driver]))
    try:
        upload = Upload(path, name, read_info(path, driver))
        _check_header(upload, limits)
    except RasterReadError as error:
        raise UploadError(f"{name} cannot be read: it is damaged or incomplete.") from error
    return upload


def display_name(name: str) -> str:
    """Return a name that is safe to display: without folders and control characters, and of limited length."""
    last = re.split(r"[\\/]", name)[-1]
    shown = "".join(c for c in last if c.isprintable())
    return shown[-MAX_NAME_LENGTH:] or "The file"


def _driver(path: Path, name: str) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise UploadTypeError(f"{name} is empty.")
    for magic, driver in DRIVERS.items():
        if start.startswith(magic):
            return driver
    raise UploadTypeError(f"{name} is not a {ACCEPTED_TYPES} image.")


def _check_header(upload: Upload, limits: Limits) -> None:
    info, name = upload.info, upload.name
    if info.width * info.height > limits.num_pixels:
        raise UploadTooLargeError(
            f"{name} has {info.width:,} x {info.height:,} pixels, but at most {limits.num_pixels / 1e6:,.10g} million "
            "are accepted; crop it."
        )
    if len(info.band_names) > MAX_BANDS:
        raise UploadTooLargeError(f"{name} has {len(info.band_names):,} bands, but at most {MAX_BANDS:,} are accepted.")
    if info.dtype.startswith("complex"):
        raise UploadTypeError(f"{name} holds complex numbers, which no model takes; use their amplitudes.")
    for part in _parts(upload):
        if (block := block_bytes(part)) > MAX_BLOCK_BYTES:
            raise UploadTooLargeError(
                f"{name} is stored in blocks of {size_text(block)}, which are too large; save it as a tiled TIFF."
            )
        try:
            check_deflated_blocks(part, upload.path, every=True)  # else uninitialised memory could leak into the result
        except ValueError as error:
            raise RasterReadError(f"{name}: {error}.") from error


def _parts(upload: Upload) -> Iterator[Any]:
    """Yield the open image, and each overview, mask and further page of a TIFF."""
    with open_raster(upload.path, upload.info.driver) as source:
        yield as_stored(source)
    if upload.info.driver != "GTiff":
        return
    for number in range(2, MAX_DIRECTORIES + 2):
        try:
            subdataset = f"GTIFF_DIR:{number}:{upload.path}"
            with rasterio.Env(**NO_SIDECARS), quiet(), rasterio.open(subdataset, driver="GTiff") as source:
                yield source
        except RasterioError as error:
            if "not found" in str(error):
                return  # other errors concern this directory only, which is not read with the image
    raise UploadTooLargeError(f"{upload.name} has more than {MAX_DIRECTORIES} pages; send the first only.")
