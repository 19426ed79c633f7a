"""Folders of files that can be made again: whole and unchanged, or not there."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from satseg.errors import ResourceError
from satseg.files import write_json
from satseg.runs import read_json

MANIFEST = "files.json"


@dataclass(frozen=True)
class Cache:
    """A folder of entries, each a folder.

    Attributes:
        folder: Where they are; it is made when the first is.
    """

    folder: Path

    def find(self, key: str) -> Path | None:
        """Return an entry's folder if all of its files are as they were written."""
        entry = self.folder / key
        try:
            expected = read_json(entry / MANIFEST)
            return entry if expected == _digests(entry) else None
        except (OSError, ValueError):
            return None

    def digests(self, key: str) -> dict[str, str]:
        """Return a hash of each file of an entry that is there."""
        found: dict[str, str] = read_json(self.folder / key / MANIFEST)
        return found

    def make(self, key: str, write: Callable[[Path], None]) -> Path:
        """Make an entry, or make it anew; nobody sees half of it.

        Args:
            key: Its name.
            write: Writes its files to an empty folder.

        Raises:
            ResourceError: If the folder cannot be written.
        """
        entry = self.folder / key
        fresh, old = (self.folder / f".{secrets.token_hex(6)}.tmp" for _ in range(2))
        try:
            fresh.mkdir(parents=True)
            write(fresh)
            write_json(fresh / MANIFEST, _digests(fresh))
            with suppress(FileNotFoundError):
                entry.rename(old)
            fresh.rename(entry)
        except OSError as error:
            if error.errno is None:  # a library's own error
                raise
            if self.find(key) is None:  # else another process was faster
                raise ResourceError(f"{entry} cannot be written: {error.strerror}.") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        return entry


def _digests(folder: Path) -> dict[str, str]:
    return {file.name: _digest(file) for file in sorted(folder.iterdir()) if file.name != MANIFEST}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
