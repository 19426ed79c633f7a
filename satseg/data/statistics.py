"""What is measured on the training split, and the fingerprint of all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from satseg.data.pairing import Sample
from satseg.data.reader import SampleReader
from satseg.spec import BandStatistics

MAX_IMAGES = 1000  # for the bands' numbers and the class counts of very large datasets
PIXELS_PER_IMAGE = 20_000  # kept for the percentiles
END_BYTES = 65_536


def compute_statistics(
    samples: Sequence[Sample], reader: SampleReader, num_classes: int
) -> tuple[BandStatistics, np.ndarray]:
    """Measure bands and classes over valid pixels.

    Args:
        samples: The training split; of more than MAX_IMAGES an even selection is read.
        reader: Reads them.
        num_classes: Length of the counts.

    Returns:
        Per-band numbers in raw units, and int64 counts of pixels by class.
    """
    chosen = [
        samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, min(len(samples), MAX_IMAGES)).astype(int))
    ]
    counts = np.zeros(num_classes, np.int64)
    kept: list[np.ndarray] = []
    parts: list[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for sample in chosen:
        image, mask, valid = reader.read(sample)
        counts += np.bincount(mask[valid], minlength=256)[:num_classes]
        pixels = image[:, valid].astype(np.float64)
        if pixels.shape[1] == 0:
            continue
        parts.append((pixels.shape[1], pixels.min(1), pixels.max(1), pixels.mean(1), pixels.var(1)))
        kept.append(pixels[:, :: max(1, pixels.shape[1] // PIXELS_PER_IMAGE)])
    return _summary(parts, kept), counts


def _summary(
    parts: list[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]], kept: list[np.ndarray]
) -> BandStatistics:
    weights = np.array([p[0] for p in parts], float)
    weights /= weights.sum()
    means, variances = np.stack([p[3] for p in parts]), np.stack([p[4] for p in parts])
    mean = weights @ means
    variance = weights @ (variances + (means - mean) ** 2)
    low, high = np.percentile(np.concatenate(kept, axis=1), (2, 98), axis=1)
    numbers = (
        np.min([p[1] for p in parts], axis=0),
        np.max([p[2] for p in parts], axis=0),
        mean,
        np.sqrt(variance),
        low,
        high,
    )
    return BandStatistics(*(tuple(float(v) for v in n) for n in numbers))


def fingerprint(splits: Mapping[str, Sequence[Sample]]) -> str:
    """Return a SHA-256 of the splits' names and of each file's size, first and last bytes."""
    digest = hashlib.sha256()
    for split, samples in sorted(splits.items()):
        for sample in sorted(samples, key=lambda s: s.name):
            digest.update(f"{split}\0{sample.name}\0".encode())
            digest.update(_ends(sample.image) + _ends(sample.mask))
    return digest.hexdigest()


def _ends(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(END_BYTES)
        file.seek(max(0, size - END_BYTES))
        return size.to_bytes(8, "little") + head + file.read(END_BYTES)
