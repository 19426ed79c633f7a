"""Atomic writing of files, by temporary folders that are cleaned up."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from satseg.errors import ResourceError

UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
TEMPORARY_NAME = re.compile(r"\.satseg-[0-9a-f]{12}\.tmp")  # name of a temporary folder
_cleaned: set[Path] = set()


def file_digest(path: Path) -> str:
    """Return a file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return satseg's cache folder: the environment's SATSEG_CACHE, or one in the user's cache folder."""
    return Path(os.environ.get("SATSEG_CACHE") or user_cache_dir("satseg")).absolute()


def size_text(num_bytes: float) -> str:
    """Return a number of bytes as text in a suitable unit, with at least two digits: 7 bytes, 1.5 kB, 12 MB."""
    if num_bytes < 1000:
        return f"{num_bytes:,.0f} bytes"
    unit, divisor = next((pair for pair in UNITS if num_bytes >= 0.9995 * pair[1]), UNITS[-1])
    number = num_bytes / divisor
    return f"{number:,.{0 if number >= 9.95 else 1}f} {unit}"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path of the same name; the file replaces `path` when the block succeeds.

    Missing folders are created. After an error nothing is left, and an existing file is kept. Other files that a
    library writes beside the temporary file are removed.

    Raises:
        ResourceError: If the file cannot be written, such as for lack of permission or space.
    """
    with _writing(path), temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)


@contextmanager
def atomic_paths(path: Path) -> Iterator[Path]:
    """Do as `atomic_path`, but move all files in the temporary folder when the block ends.

    The file itself is moved last, after its companions; an existing one is removed before these, so that it is never
    seen beside companions of another version.

    Raises:
        ResourceError: If the file cannot be written, such as for lack of permission or space.
    """
    with _writing(path), temporary_folder(path.parent) as folder:
        yield folder / path.name
        files = sorted(folder.iterdir(), key=lambda file: file.name == path.name)
        for file in files:
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        if len(files) > 1:
            path.unlink(missing_ok=True)
        for file in files:
            file.replace(path.with_name(file.name))
        _sync_folder(path.parent)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:  # an error raised by a library such as GDAL
            raise
        raise ResourceError(f"{path} cannot be written: {error.strerror}.") from error


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new hidden folder inside `parent`, and remove it with its contents at the end.

    The first call for a parent also removes folders left by killed processes: each folder is locked as long as its
    process lives.

    Raises:
        OSError: If the folder cannot be created.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(parent)
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def is_temporary_folder(folder: Path) -> bool:
    """Return True if a folder is a temporary one, of a running or a killed process."""
    return TEMPORARY_NAME.fullmatch(folder.name) is not None


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        folder = parent / f".satseg-{secrets.token_hex(6)}.tmp"
        folder.mkdir()
        with suppress(FileNotFoundError):  # removed by another process before it was locked
            lock = os.open(folder, os.O_RDONLY)
            _lock(lock, fcntl.LOCK_EX)  # waits for a process that is removing it
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_stale(parent: Path) -> None:
    """Remove folders of killed processes, once per parent, as it may be large."""
    key = parent.absolute()
    if key in _cleaned:
        return
    _cleaned.add(key)
    for left in [path for path in parent.iterdir() if is_temporary_folder(path)]:
        with suppress(OSError):  # another process may be removing it
            lock = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def _lock(descriptor: int, how: int) -> bool:
    """Lock a folder until all copies of its descriptor are closed; return False if it is locked or cannot be."""
    try:
        fcntl.flock(descriptor, how)
    except OSError:  # also on storage without locks, where nothing is removed
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that new names survive a power failure, if the system supports it."""
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
    """Write plain data as JSON atomically; NaN and infinity become null, as JSON does not have them."""
    write_text(path, json.dumps(_nan_as_null(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _nan_as_null(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _nan_as_null(value) for key, value in data.items()}
    return [_nan_as_null(value) for value in data] if isinstance(data, list | tuple) else data
