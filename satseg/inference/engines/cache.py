"""The user's cache of exported graphs, whose entries are complete and unchanged or absent."""

from __future__ import annotations

import errno
import functools
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from satseg.errors import RecordError, ResourceError
from satseg.files import cache_folder, file_digest, temporary_folder, write_json
from satseg.runs.documents import read_json

logger = logging.getLogger(__name__)

MANIFEST = "files.json"
MAX_ATTEMPTS = 100  # to replace an entry that others replace, too
MAX_BYTES = 10_000_000_000  # of all entries; beyond that, the least recently used are removed
REMEDY = "Set SATSEG_CACHE in the environment to use another folder."


def persistent_cache() -> Cache:
    """Return the cache shared by all of this user's models; never beside a model, where others could plant a graph.

    Raises:
        ResourceError: If other users can write to it.
    """
    folder = cache_folder() / "engines"
    if problem := _untrusted_reason(folder):
        raise ResourceError(f"{problem}.")
    return Cache(folder)


def graph_cache() -> Cache:
    """Return the cache shared by all of this user's models, or a temporary one if others can write to that."""
    try:
        return persistent_cache()
    except ResourceError as error:
        _warn_once(f"Exported graphs are not kept: {error} {REMEDY}")
        return Cache(_own_folder())


def _untrusted_reason(folder: Path) -> str | None:
    """Return why a folder cannot be trusted; None if only this user can write to it, or it does not exist yet."""
    try:
        found = folder.stat()
    except OSError:
        return None
    if found.st_uid not in (0, os.getuid()):
        return f"{folder} belongs to another user"
    if stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        return f"other users may write to {folder}; remove it, or chmod -R go-w it if you trust what is there"
    return None


@functools.cache
def _own_folder() -> Path:
    """Return a folder that is removed when this process ends."""
    _temporary.append(tempfile.TemporaryDirectory(prefix="satseg_engines_"))
    return Path(_temporary[-1].name)


_temporary: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def _warn_once(line: str) -> None:
    logger.warning(line)


@dataclass(frozen=True)
class Cache:
    """A folder of entries, each of which is a folder.

    Attributes:
        folder: Folder of the entries; created with the first, private to this user.
    """

    folder: Path

    def find(self, key: str) -> Path | None:
        """Return an entry's folder if all of its files are unchanged."""
        places = [self.folder, *(Path(temporary.name) for temporary in _temporary)]
        return next((entry for place in places if _is_whole(entry := place / key)), None)

    def make_folder(self) -> None:
        """Create the folder if it is missing, private to this user."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def make(self, key: str, write: Callable[[Path], None]) -> Path:
        """Create or replace an entry atomically.

        Args:
            key: Name of the entry.
            write: Writes its files to an empty folder.

        Raises:
            ResourceError: If the folder cannot be written.
        """
        entry = self.folder / key
        try:
            self.make_folder()
            with temporary_folder(self.folder) as folder:
                fresh = folder / "new"
                fresh.mkdir()
                write(fresh)
                write_json(fresh / MANIFEST, _digests(fresh))
                _replace(entry, fresh, folder)
        except OSError as error:
            if error.errno is None:  # a library's own error
                raise
            if not _is_whole(entry):  # else another process was faster
                raise ResourceError(f"{self.folder} cannot be written: {error.strerror}.") from error
        self._remove_unused(entry)
        return entry

    def make_or_temporary(self, key: str, write: Callable[[Path], None]) -> Path:
        """Create an entry as `make` does, or in a temporary cache if this one cannot be written."""
        try:
            return self.make(key, write)
        except ResourceError as error:
            _warn_once(f"Exported graphs are not kept: {error} {REMEDY}")
            return Cache(_own_folder()).make(key, write)

    def _remove_unused(self, latest: Path) -> None:
        """Remove the least recently used entries until the rest is no larger than MAX_BYTES."""
        room = MAX_BYTES - _size(latest)
        for _, entry in sorted(self._used(), reverse=True):
            if entry != latest and (room := room - _size(entry)) < 0:
                shutil.rmtree(entry, ignore_errors=True)

    def _used(self) -> Iterator[tuple[int, Path]]:
        for manifest in self.folder.glob(f"*/{MANIFEST}"):
            with suppress(OSError):  # another process has removed it
                yield manifest.stat().st_mtime_ns, manifest.parent


def _replace(entry: Path, fresh: Path, folder: Path) -> None:
    """Move a folder to an entry's place, and what is there to another folder; other processes may do the same."""
    for number in range(MAX_ATTEMPTS):
        with suppress(FileNotFoundError):
            entry.rename(folder / f"old{number}")
        try:
            fresh.rename(entry)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or number + 1 == MAX_ATTEMPTS:
                raise
        else:
            return


def digests(entry: Path) -> dict[str, str]:
    """Return the recorded hash of each file of an entry."""
    found: dict[str, str] = read_json(entry / MANIFEST)
    return found


def _is_whole(entry: Path) -> bool:
    """Return whether an entry exists with its files unchanged, and mark it as used."""
    try:
        whole = bool(digests(entry) == _digests(entry))
    except (OSError, RecordError):
        return False
    with suppress(OSError):  # the cache may be read-only
        os.utime(entry / MANIFEST)
    return whole


def _size(entry: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in entry.iterdir())
    return 0


def _digests(folder: Path) -> dict[str, str]:
    return {file.name: file_digest(file) for file in sorted(folder.iterdir()) if file.name != MANIFEST}
