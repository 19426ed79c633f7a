"""Opening rasters, with every failure turned into one error that names the file."""

from __future__ import annotations

import logging
import os
import re
import struct
import threading
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from satseg.data.rasters.deflated import check_deflated_blocks
from satseg.data.rasters.orientation import upright
from satseg.errors import RasterReadError, ResourceError

# GDAL's own errors, which rasterio does not always translate, have no public name: this is the only private import.
RASTER_ERRORS = (CPLE_BaseError, RasterioError)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# GDAL's fast path silently fills the missing part of a damaged PNG with uninitialised memory; the slow one reports it.
PNG_OPTIONS = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}
MAX_SHOWN = 12  # subdatasets that a message lists
CACHE_BYTES = 64 << 20  # GDAL's block cache; its default is a twentieth of the memory
NO_SIDECARS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}  # do not look for sidecar files
# Read only the needed ranges in few requests; retry a busy server, give up on a silent one.
REMOTE_OPTIONS = {
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",  # seconds; doubled each time
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "300",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "VSI_CACHE": "YES",
}


class _SecretsFilter(logging.Filter):
    """Remove secrets from URLs in GDAL's messages, which rasterio logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "://" in text:
            record.msg, record.args = _without_secrets(text), ()
        return True


logging.getLogger("rasterio._env").addFilter(_SecretsFilter())


def is_remote(path: Path | str) -> bool:
    """Return True for a URL, False for the path of a file."""
    return isinstance(path, str) and re.match(r"[a-z][a-z0-9+.-]*://", path, re.IGNORECASE) is not None


def redacted(path: Path | str) -> str:
    """Return a raster's name for messages: a URL without user, password and query, which may be secret."""
    return _without_secrets(re.split(r"[?#]", str(path))[0]) if is_remote(path) else str(path)


def _without_secrets(text: str) -> str:
    return re.sub(r"\?[^\s'\"]*", "", re.sub(r"(?<=://)[^/@\s]*@", "", text))


@contextmanager
def open_raster(path: Path | str, driver: str | None = None) -> Iterator[Any]:
    """Open a raster; failures, also within the block, become errors that name the file.

    A photograph that is stored rotated is read upright; see `upright`.

    Args:
        path: A file or URL.
        driver: The only driver allowed, for untrusted files: a VRT under any name could read other files. Sidecar files
            are then not read either.
    """
    options = _options(path) | (NO_SIDECARS if driver else {})
    with _explained(path), rasterio.Env(**options), quiet(), rasterio.open(_gdal_path(path), driver=driver) as source:
        if driver is None:  # untrusted files are checked completely on upload
            _check_blocks(source, path)
        check_bands(source, path)
        yield upright(source, path)


_bounded = threading.local()
_checked: set[tuple[Path | str, int, int]] = set()


@contextmanager
def bounded_cache() -> Iterator[None]:
    """Limit GDAL's cache of decoded blocks within the context; nesting costs nothing."""
    if getattr(_bounded, "inside", False):
        yield
        return
    _bounded.inside = True
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            yield
    finally:
        _bounded.inside = False


class OpenRasters:
    """Pool of the most recently read rasters, as opening one takes longer than reading a window.

    GDAL handles belong to one process and one thread, so each has its own pool.

    Args:
        limit: Number of open rasters.
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self._own = threading.local()

    def __reduce__(self) -> Any:
        """Start with an empty pool in another process."""
        return OpenRasters, (self.limit,)

    @contextmanager
    def open(self, path: Path | str) -> Iterator[Any]:
        """Open a raster as `open_raster` does, or reuse it if it is open."""
        kept = self._kept()
        if path not in kept:
            options = _options(path)
            if options == PNG_OPTIONS and not is_remote(path) and _is_undamaged_png(Path(path)):
                options = {}  # training reads it many times, so the fast path pays off
            with _explained(path), rasterio.Env(**options), quiet():
                source = rasterio.open(_gdal_path(path))
                _check_blocks(source, path)
                check_bands(source, path)
                kept[path] = upright(source, path), options
            if len(kept) > self.limit:
                kept.popitem(last=False)[1][0].close()
        kept.move_to_end(path)
        source, options = kept[path]
        try:
            with _explained(path), bounded_cache(), rasterio.Env(**options) if options else nullcontext():
                yield source
        except BaseException:
            kept.pop(path, None)  # its state is unknown
            raise

    def _kept(self) -> OrderedDict[Path | str, tuple[Any, dict[str, str]]]:
        if getattr(self._own, "process", None) != os.getpid():
            self._own.process, self._own.kept = os.getpid(), OrderedDict()
        kept: OrderedDict[Path | str, tuple[Any, dict[str, str]]] = self._own.kept
        return kept


@contextmanager
def _explained(path: Path | str) -> Iterator[None]:
    """Turn failures into errors that name the raster."""
    try:
        yield
    except (*RASTER_ERRORS, OSError, ValueError, OverflowError) as error:
        if is_remote(path):
            raise RasterReadError(_remote_message(str(path), error)) from None  # GDAL's message holds the whole URL
        raise RasterReadError(f"{path} cannot be read; it is truncated or not a raster ({reason(error)}).") from error
    except MemoryError as error:
        raise ResourceError(f"{redacted(path)} does not fit into memory; read it in windows.") from error


def _check_blocks(source: Any, path: Path | str) -> None:
    """Check the first block of a local file, once until the file changes."""
    if is_remote(path) or source.driver != "GTiff":
        return
    state = Path(path).stat()
    if (path, state.st_size, state.st_mtime_ns) not in _checked:
        check_deflated_blocks(source, Path(path))
        _checked.add((path, state.st_size, state.st_mtime_ns))


def check_bands(source: Any, path: Path | str) -> None:
    """Check that a raster has bands of its own.

    Raises:
        RasterReadError: If it has none; lists its subdatasets.
    """
    if source.count:
        return
    held = [text for key, text in source.tags(ns="SUBDATASETS").items() if key.endswith("_NAME")]
    if not held:
        raise RasterReadError(
            f"{redacted(path)} has no bands that can be read; convert it to GeoTIFF with other software."
        )
    more = f" and {len(held) - MAX_SHOWN} more" if len(held) > MAX_SHOWN else ""
    raise RasterReadError(
        f"{redacted(path)} holds several rasters: {', '.join(held[:MAX_SHOWN])}{more}. Name one of them instead, as in "
        f"input='{held[0]}', or one for each band; for training, write them into one file (gdalbuildvrt -separate)."
    )


def _gdal_path(path: Path | str) -> Path | str:
    return path if is_remote(path) else Path(path)


def reason(error: Exception) -> str:
    """Return GDAL's message on one line."""
    text = " ".join(str(error.__cause__ or error).split()).partition(" (this error can be turned")[0].rstrip(".")
    return _without_secrets(text) if "://" in text else text


def _remote_message(url: str, error: Exception) -> str:
    hint = "check the address, the connection, and that you may read it"
    if url.startswith("s3://"):
        hint += " (AWS_NO_SIGN_REQUEST=YES in the environment for a public bucket)"
    return f"{redacted(url)} cannot be read ({reason(error)}); {hint}."


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warning about a missing georeference, which photographs and masks often lack."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _options(path: Path | str) -> dict[str, str]:
    """Return the GDAL options to open a raster with; raise an error if it cannot be one."""
    if is_remote(path):  # no sidecar files: listing is slow, and often forbidden
        return _unset(NO_SIDECARS | REMOTE_OPTIONS) | PNG_OPTIONS
    path = Path(path)
    signature = _read_signature(path)
    if path.suffix.lower() == ".vrt":  # its sources may be remote
        return _unset(REMOTE_OPTIONS) | PNG_OPTIONS
    return PNG_OPTIONS if signature == PNG_SIGNATURE else {}


def _unset(options: dict[str, str]) -> dict[str, str]:
    """Return the options that the user's environment does not set."""
    return {name: value for name, value in options.items() if name not in os.environ}


def _read_signature(path: Path) -> bytes:
    if not path.exists():
        raise RasterReadError(f"{path} is not there; check the path.")
    if path.is_dir():
        raise RasterReadError(f"{path} is a folder; a raster file was expected.")
    try:
        with path.open("rb") as file:
            beginning = file.read(len(PNG_SIGNATURE))
    except OSError as error:
        raise RasterReadError(f"{path} cannot be read ({error.strerror}).") from error
    if not beginning:
        raise RasterReadError(f"{path} is empty; copy or download it again.")
    return beginning


def _is_undamaged_png(path: Path) -> bool:
    """Return True if all chunks of a PNG match their checksums, which is far faster to check than decoding."""
    try:
        with path.open("rb") as file:
            left = file.seek(0, os.SEEK_END) - file.seek(len(PNG_SIGNATURE))
            while (left := left - 12) >= 0:
                length, kind = struct.unpack(">I4s", file.read(8))
                if (left := left - length) < 0:
                    return False
                content, (checksum,) = file.read(length), struct.unpack(">I", file.read(4))
                if zlib.crc32(content, zlib.crc32(kind)) != checksum:
                    return False
                if kind == b"IEND":
                    return True
    except (OSError, struct.error):
        pass
    return False
