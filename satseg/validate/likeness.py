"""Pictures that show nearly the same, turned, mirrored or enlarged; found without comparing all pairs.

Each picture is described by few numbers that turning and mirroring do not change: sizes of its lowest frequencies. Only
neighbours among these are compared, so the time grows with the number of pictures, not with that of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np
from scipy.fft import dctn

from satseg.validate.neighbours import Neighbours
from satseg.validate.similarity import cell_weights, unit_rows
from satseg.validate.turns import TURNS, turned

LEAST = 0.9  # correlation of pictures' gradients; of different photographs it stays below about 0.8
LEAST_FAINT = 0.85  # the same, where faint gradients count, too: one coast or street can be like another
CLEAR = 15.0  # standard deviations, were signs left to chance: pictures of a few shapes can be alike
VARIETY = 16.0  # what less varied pictures show, such as one coast or the stripes of a field, others show by chance
ZOOMS = (1.0, 1.05, 1.1)  # that are tried; between them correlation falls little
FREQUENCIES = 4  # a side, that describe a picture
COMPARED = 8  # a side, that are compared first
LEAST_COMPARED = 0.8  # their correlation
ORDERS, NEAREST = 4, 4  # in which pictures are sorted, and how many on each side are compared
REACH = 0.6  # distance of descriptions; of most copies it is below 0.1, of different photographs about 0.7
CHUNK = 512  # pairs at a time
SIGNS = np.array(
    [[[1, right], [down, down * right]] for down in (1, -1) for right in (1, -1)], np.float32
)  # of mirrored waves


class Likeness(NamedTuple):
    """Two pictures that show nearly the same.

    Attributes:
        one: Number of the first one.
        other: Number of the second one.
        correlation: Of their gradients.
        turn: Index of TURNS that lays the first one on the second.
        zoom: How many times the second one shows what is in the first one's middle enlarged; below 1 where it is the
            other way round.
    """

    one: int
    other: int
    correlation: float
    turn: int
    zoom: float


def variety(pictures: np.ndarray) -> np.ndarray:
    """Return how many waves make up the gradients of pictures (n, side, side), apart from an even slope (n,)."""
    steps = np.arange(pictures.shape[1], dtype=np.float64)
    steps = (steps - steps.mean()) / steps.std()
    level = pictures - pictures.mean((1, 2), keepdims=True)
    for slope in (steps[:, None], steps):
        level = level - (level * slope).mean((1, 2), keepdims=True) * slope
    number = np.arange(pictures.shape[1])
    kept = np.cos(number * np.pi / (2 * len(number))) ** 2  # of each frequency, by smoothing
    waves = dctn(level, axes=(1, 2), norm="ortho") * np.hypot(number[:, None], number) * kept[:, None] * kept
    energy = (waves**2).reshape(len(pictures), -1)
    waves_of: np.ndarray = energy.sum(1) ** 2 / np.maximum((energy**2).sum(1), 1e-300)
    return waves_of


def near_copies(groups: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, Likeness]]:
    """Find the pictures of different groups that show nearly the same; those that show hardly anything are left out.

    Args:
        groups: Pictures (n, side, side), all of one side, float32.

    Yields:
        Names of two groups, and numbers of pictures in them; a pair comes once.
    """
    varied = {name: np.flatnonzero(variety(pictures) >= VARIETY) for name, pictures in groups.items()}
    groups = {name: _level(groups[name][numbers]) for name, numbers in varied.items() if len(numbers)}
    waves = {name: _waves(pictures) for name, pictures in groups.items()}
    near = {name: Neighbours(_described(some), ORDERS, NEAREST) for name, some in waves.items()}
    found: dict[tuple[str, int, str, int], tuple[str, str, Likeness]] = {}
    for zoom in ZOOMS:
        for one, other in permutations(groups, 2) if zoom > 1 else combinations(groups, 2):
            for like in _found(groups[one], groups[other], waves[other], near[other], zoom):
                like = like._replace(one=int(varied[one][like.one]), other=int(varied[other][like.other]))
                first, second = sorted(((one, like.one), (other, like.other)))
                key = (*first, *second)
                if key not in found or like.correlation > found[key][2].correlation:
                    found[key] = one, other, like
    yield from found.values()


def _found(
    one: np.ndarray, other: np.ndarray, others_waves: np.ndarray, near: Neighbours, zoom: float
) -> Iterator[Likeness]:
    weights = cell_weights(one.shape[1], one.shape[1], zoom).astype(np.float32)
    enlarged = weights @ one @ weights.T
    waves = _waves(enlarged)
    first, second = near.near(_described(waves), REACH)
    parts = range(0, len(first), CHUNK)
    likely = [_likely(waves[first[i : i + CHUNK]], others_waves[second[i : i + CHUNK]]) for i in parts]
    kept = np.flatnonzero(np.concatenate([np.zeros(0, bool), *likely]))
    for start in range(0, len(kept), CHUNK):
        a, b = first[kept[start : start + CHUNK]], second[kept[start : start + CHUNK]]
        turn, correlation = _compared(enlarged[a], other[b])
        for k in np.flatnonzero(correlation >= LEAST).tolist():
            yield Likeness(int(a[k]), int(b[k]), float(correlation[k]), int(turn[k]), zoom)


def _waves(pictures: np.ndarray) -> np.ndarray:
    """Return the lowest frequencies (n, COMPARED, COMPARED), as gradients have them: brightness does not count."""
    steps = np.arange(COMPARED)
    waves = dctn(pictures, axes=(1, 2), norm="ortho")[:, :COMPARED, :COMPARED] * np.hypot(steps[:, None], steps)
    return unit_rows(waves.reshape(len(waves), -1)).reshape(waves.shape)


def _likely(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Tell which pictures are alike at one turn, by their lowest frequencies: mirroring negates the odd ones."""
    pairs = (len(one), COMPARED // 2, 2, COMPARED // 2, 2)  # even and odd
    other = other.reshape(pairs)
    best = np.zeros(len(one), np.float32)
    for some in (one, one.swapaxes(1, 2)):
        sums = np.einsum("nipjq,nipjq->npq", some.reshape(pairs), other)
        for signs in SIGNS:
            best = np.maximum(best, (sums * signs).sum((1, 2)))
    return best >= LEAST_COMPARED


def _described(waves: np.ndarray) -> np.ndarray:
    """Return what neither turning nor mirroring changes: sums and differences of opposite waves (n, 20)."""
    waves = np.abs(waves[:, :FREQUENCIES, :FREQUENCIES])
    opposite = waves.swapaxes(1, 2)
    rows, columns = np.triu_indices(FREQUENCIES)
    low, high = np.abs(waves - opposite)[:, rows, columns], (waves + opposite)[:, rows, columns]
    return unit_rows(np.concatenate([high * np.where(rows == columns, np.sqrt(0.5), 1), low], axis=1))


def _compared(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the turn at which pictures are most alike, and their correlation there; 0 where that may be chance."""
    target = _gradients(other)
    sides = np.stack([_gradients(turned(one, number)) for number in range(len(TURNS))])
    found = np.einsum("tij,ij->ti", sides, target)
    best, correlation = found.argmax(0), found.max(0)
    likely = np.flatnonzero(correlation >= LEAST)
    products = _faint(sides[best[likely], likely]) * _faint(target[likely])
    sums, spread = products.sum(1), np.sqrt((products**2).sum(1))
    correlation[likely[(sums < LEAST_FAINT) | (sums < CLEAR * spread)]] = 0
    return best, correlation


def _faint(gradients: np.ndarray) -> np.ndarray:
    """Return gradients of which the faint ones count nearly as much as the strong ones."""
    return unit_rows(np.sign(gradients) * np.abs(gradients) ** 0.25)


def _gradients(pictures: np.ndarray) -> np.ndarray:
    """Return the differences between neighbouring cells, smoothed: brightness and contrast do not count."""
    for axis in (1, 2):
        moved = np.moveaxis(pictures, axis, 0)
        pictures = np.moveaxis(moved[:-2] + 2 * moved[1:-1] + moved[2:], 0, axis)
    return unit_rows(
        np.concatenate([np.diff(pictures, axis=axis).reshape(len(pictures), -1) for axis in (1, 2)], axis=1)
    )


def _level(pictures: np.ndarray) -> np.ndarray:
    """Return pictures without the slope of brightness that most of each one has, as the sun makes it."""
    steps = np.arange(pictures.shape[1], dtype=np.float32)
    down, across = (np.median(np.diff(pictures, axis=axis), axis=(1, 2))[:, None, None] for axis in (1, 2))
    level: np.ndarray = pictures - down * steps[:, None] - across * steps
    return level
