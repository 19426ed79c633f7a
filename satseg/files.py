"""Files that are either there whole or not at all."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from satseg.errors import ResourceError

UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def cache_folder() -> Path:
    """Return where satseg keeps what it can make again: the environment's SATSEG_CACHE, or the user's cache folder."""
    return Path(os.environ.get("SATSEG_CACHE") or user_cache_dir("satseg")).absolute()


def size_text(num_bytes: float) -> str:
    """Return a number of bytes in the unit that suits it, with two digits or more: 7 bytes, 1.5 kB, 12 MB."""
    if num_bytes < 1000:
        return f"{num_bytes:,.0f} bytes"
    unit, divisor = next((pair for pair in UNITS if num_bytes >= 0.9995 * pair[1]), UNITS[-1])
    number = num_bytes / divisor
    return f"{number:,.{0 if number >= 9.95 else 1}f} {unit}"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder that takes `path`'s place when the block ends well.

    The folder is made where it is missing; after an error nothing is left and an older file stays.

    Raises:
        ResourceError: If the system cannot write: no right, no space, no such folder.
    """
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is None:  # a library's own error, such as GDAL's
            raise
        raise ResourceError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the system opens folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON atomically; what is not a number becomes null, as JSON has no NaN."""
    write_text(path, json.dumps(_defined(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _defined(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _defined(value) for key, value in data.items()}
    return [_defined(value) for value in data] if isinstance(data, list | tuple) else data
