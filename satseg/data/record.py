"""What is recorded of a split: names, windows, hashes of both and of the files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from satseg.data.pairing import Sample
from satseg.data.rasters.names import natural

END_BYTES = 65_536

Splits = Mapping[str, Sequence[Sample]]


def manifest(splits: Splits) -> dict[str, Any]:
    """Return the names by split, the windows of those that are parts of an image, and a hash of both.

    Returns:
        `splits` (names in natural order), `windows` (column, row, width and height by name) and `split_hash`: the
        SHA-256 of these two as compact JSON with sorted keys, the same on any machine and for any order of files.
    """
    names = {split: sorted((s.name for s in samples), key=natural) for split, samples in splits.items()}
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
    ends = lru_cache(maxsize=32)(_ends)  # parts of one image follow each other
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
