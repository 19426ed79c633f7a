"""Fingerprints of splits and of their files, and detection of files that change during use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from satseg.data.rasters.names import natural_key
from satseg.data.samples import Sample
from satseg.errors import DataChangedError, SatsegError
from satseg.runs.documents import MAX_LISTING_BYTES, read_json

END_BYTES = 65_536

Splits = Mapping[str, Sequence[Sample]]
State = tuple[int, int]  # size in bytes, modification time in nanoseconds


def manifest(splits: Splits) -> dict[str, Any]:
    """Return the sample names by split, the windows of partial images, and a hash of both.

    Returns:
        `splits` (names in natural order), `windows` (column, row, width and height by name) and `split_hash`: the
        SHA-256 of these two as compact JSON with sorted keys, independent of machine and file order.
    """
    names = {split: sorted((s.name for s in samples), key=natural_key) for split, samples in splits.items()}
    windows = {s.name: list(s.window) for samples in splits.values() for s in samples if s.window is not None}
    found = {"splits": names, "windows": windows}
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return found | {"split_hash": hashlib.sha256(text.encode()).hexdigest()}


def digests(splits: Splits) -> dict[str, str]:
    """Return a digest of each sample's image, mask and window."""
    return {s.name: digest(s) for samples in splits.values() for s in samples}


def digest(sample: Sample) -> str:
    """Return a digest of a sample's image, mask and window."""
    return fingerprint({"": [sample]})[:16]


def fingerprint(splits: Splits) -> str:
    """Return a SHA-256 of the splits' names and windows, and of each file's size, first and last bytes."""
    digest = hashlib.sha256()
    ends = lru_cache(maxsize=32)(_ends)  # parts of one image are adjacent
    for split, samples in sorted(splits.items()):
        files = [file for sample in samples for file in sample.by_file()]
        for sample in sorted(files, key=lambda s: s.name):
            digest.update(f"{split}\0{sample.name}\0".encode())
            if sample.window is not None:
                digest.update(f"{tuple(sample.window)}\0".encode())
            digest.update(ends(sample.image) + ends(sample.mask))
    return digest.hexdigest()


def _ends(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(END_BYTES)
        file.seek(max(0, size - END_BYTES))
        return size.to_bytes(8, "little") + head + file.read(END_BYTES)


@dataclass
class FileStates:
    """Sizes and modification times of the samples' files when they were first seen.

    Attributes:
        digests: A file with the `digests` of all samples, if any: a file that was only touched, or restored, then
            counts as unchanged.
    """

    digests: Path | None = None
    _known: dict[Path, State | None] = field(default_factory=dict, repr=False)

    def note(self, sample: Sample) -> None:
        """Record the state of a sample's files, unless it is recorded already."""
        for file in _files(sample):
            if file not in self._known:
                self._known[file] = _state(file)

    @contextmanager
    def unchanged(self, sample: Sample) -> Iterator[None]:
        """Context in which a sample is read; checks afterwards that its files have not changed.

        Raises:
            DataChangedError: If a file is missing or differs from when it was recorded; names it.
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
            if self._digest(sample) != digest(sample):
                raise DataChangedError(f"{file} has changed since it was first read: put it back as it was.")
            self._known[file] = now

    def _digest(self, sample: Sample) -> str | None:
        return _read_digests(self.digests).get(sample.name) if self.digests else None


@cache
def _read_digests(path: Path) -> dict[str, str]:
    digests: dict[str, str] = read_json(path, dict, MAX_LISTING_BYTES).get("digests", {})
    return digests


def _files(sample: Sample) -> tuple[Path, ...]:
    """Return the user's own files of a sample."""
    return (*(sample.band_files or (sample.image,)), *(sample.label_files or (sample.mask,)))


def _state(file: Path) -> State | None:
    try:
        found = file.stat()
    except OSError:  # missing
        return None
    return found.st_size, found.st_mtime_ns
