"""Files of a dataset that change, or disappear, while they are in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from satseg.data import record
from satseg.data.pairing import Sample
from satseg.errors import DataChangedError, SatsegError
from satseg.runs.documents import MOST_LISTING, read_json

State = tuple[int, int]  # size in bytes, and time of change in nanoseconds


@dataclass
class FileStates:
    """What the files of samples were when they were first looked at.

    Attributes:
        digests: A file with the `digests` of all samples, where there is one: then a file of the dataset that was only
            touched, or put back as it was, has not changed.
    """

    digests: Path | None = None
    _known: dict[Path, State | None] = field(default_factory=dict, repr=False)

    def note(self, sample: Sample) -> None:
        """Look at a sample's files, unless they have been looked at before."""
        for file in _files(sample):
            if file not in self._known:
                self._known[file] = _state(file)

    @contextmanager
    def unchanged(self, sample: Sample) -> Iterator[None]:
        """Surround the reading of a sample; what was read of a file that has changed is good for nothing.

        Raises:
            DataChangedError: If a file is gone, or another one than when it was noted; names it.
        """
        self.note(sample)
        try:
            yield
        except SatsegError:
            self._check(sample)
            raise
        self._check(sample)

    def _check(self, sample: Sample) -> None:
        for file in _files(sample):
            now = _state(file)
            if now == self._known[file]:
                continue
            if now is None:
                raise DataChangedError(f"{file} is no longer there: put it back.")
            if self._digest(sample) != record.digest(sample):
                raise DataChangedError(f"{file} has changed since it was first read: put it back as it was.")
            self._known[file] = now

    def _digest(self, sample: Sample) -> str | None:
        return _read_digests(self.digests).get(sample.name) if self.digests else None


@cache
def _read_digests(path: Path) -> dict[str, str]:
    digests: dict[str, str] = read_json(path, dict, MOST_LISTING).get("digests", {})
    return digests


def _files(sample: Sample) -> tuple[Path, ...]:
    """Return the user's own files of a sample."""
    return (*(sample.band_files or (sample.image,)), *(sample.label_files or (sample.mask,)))


def _state(file: Path) -> State | None:
    try:
        found = file.stat()
    except OSError:  # it is not there
        return None
    return found.st_size, found.st_mtime_ns
