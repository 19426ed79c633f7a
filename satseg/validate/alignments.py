"""Images that hold the same ground, resampled, compressed again, turned or mirrored; found by their landmarks.

Each landmark is compared with its nearest neighbours only, so the time grows with the number of images, not with that
of pairs. What several landmarks tell of where one image lies in another is checked on small pictures of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from satseg.validate.facts import Landmarks
from satseg.validate.landmarks import PRECISION
from satseg.validate.likeness import VARIETY, variety
from satseg.validate.neighbours import Neighbours
from satseg.validate.turns import TURNS, matrix

LEAST = 6  # landmarks that agree
LEAST_PLAIN = 12  # the same where a picture is not varied
ORDERS, NEAREST = 6, 3  # in which landmarks are sorted, and how many on each side are compared
REACH = 0.5  # distance of descriptions, of length 1 at most; of the same place it is about 0.2
LOOSE = 0.12  # how much distances between landmarks may differ, at first, as by another resolution
OFF = 2.5  # pixels between where a landmark lies and where it would
MOST = 400  # landmarks of two images that are compared with each other
LARGEST = 1.2  # ratio of resolutions
LIKE = 0.75  # correlation of the common area
WHOLE = 0.8  # share of the pixels from which an image may be a copy, enlarged by 10 %
CENTRED = 0.03  # of a side, that the middle of a copy may be moved
LEAST_CELLS = 16  # of small pictures, in common
INNER = 3  # places a side in a cell that are averaged
MATRICES = np.stack([matrix(number) for number in range(len(TURNS))])
RELATIVE = np.array(
    [[int(np.argmax((b @ a.T == MATRICES).all((1, 2)))) for b in MATRICES] for a in MATRICES]
)  # the turn from one image to another, by how a landmark lies in each


class Pictured(NamedTuple):
    """An image's landmarks, its size in pixels, and its small picture (cells, cells)."""

    landmarks: Landmarks
    height: int
    width: int
    small: np.ndarray


class Alignment(NamedTuple):
    """How one image lies in another.

    Attributes:
        one: Number of the first one.
        other: Number of the second one.
        share: Of the smaller one's pixels that both show.
        turn: Index of TURNS that lays the first one on the second.
        zoom: Pixels of the second one on one of the first.
        likeness: Correlation of what both show.
        is_whole: Whether they show the same from edge to edge, but for an enlargement.
    """

    one: int
    other: int
    share: float
    turn: int
    zoom: float
    likeness: float
    is_whole: bool


class Placing(NamedTuple):
    """A turn, a scale with a slight rotation, and a shift, as complex numbers: rows are real, columns imaginary."""

    turn: int
    scale: complex
    shift: complex

    def of(self, places: np.ndarray) -> np.ndarray:
        """Return where places (n, 2) of the first image lie in the second one (n, 2)."""
        moved = _complex(places @ MATRICES[self.turn].T) * self.scale + self.shift
        return np.stack([moved.real, moved.imag], axis=1)


def alignments(groups: Mapping[str, Sequence[Pictured]]) -> Iterator[tuple[str, str, Alignment]]:
    """Find the images of different groups that have an area in common.

    Args:
        groups: Images by name.

    Yields:
        Names of two groups, and numbers of images in them.
    """
    by_size = sorted((name for name in groups if groups[name]), key=lambda name: len(groups[name]))
    near = {name: Neighbours(_numbers(groups[name]), ORDERS, NEAREST) for name in by_size[1:]}
    varied = {name: variety(np.stack([i.small for i in groups[name]])) >= VARIETY for name in by_size}
    for one, other in combinations(by_size, 2):
        for i, j, turn, places, others in _matched(groups[one], groups[other], near[other]):
            least = LEAST if varied[one][i] and varied[other][j] else LEAST_PLAIN
            placing = _placing(turn, places, others, least)
            if placing:
                a, b = groups[one][i], groups[other][j]
                share, like = _common(a, b, placing)
                if like >= LIKE:
                    is_whole = share >= WHOLE and _is_centred(a, b, placing)
                    yield one, other, Alignment(i, j, share, turn, abs(placing.scale), like, is_whole)


def _numbers(images: Sequence[Pictured]) -> np.ndarray:
    return np.concatenate([i.landmarks.numbers for i in images])


def _matched(
    one: Sequence[Pictured], other: Sequence[Pictured], near: Neighbours
) -> Iterator[tuple[int, int, int, np.ndarray, np.ndarray]]:
    """Yield two images, a turn, and the places (n, 2) in both of landmarks that are alike when turned so."""
    a, b = _rows(one), _rows(other)
    first, second = near.near(_numbers(one), REACH * PRECISION)
    turn = RELATIVE[a[first, 3], b[second, 3]]
    keys = (a[first, 0] * len(other) + b[second, 0]) * len(TURNS) + turn
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    enough = ends - starts >= LEAST
    for start, end in zip(starts[enough].tolist(), ends[enough].tolist(), strict=True):
        some = order[start:end]
        i, j, number = a[first[some[0]], 0], b[second[some[0]], 0], turn[some[0]]
        yield int(i), int(j), int(number), a[first[some], 1:3] + 0.5, b[second[some], 1:3] + 0.5


def _rows(images: Sequence[Pictured]) -> np.ndarray:
    """Return image, row, column and turn of all landmarks (n, 4)."""
    numbers = np.repeat(np.arange(len(images)), [len(i.landmarks.places) for i in images])
    places = np.concatenate([i.landmarks.places for i in images])
    return np.column_stack([numbers, places, np.concatenate([i.landmarks.turns for i in images])])


def _complex(places: np.ndarray) -> np.ndarray:
    numbers: np.ndarray = places[:, 0] + 1j * places[:, 1]
    return numbers


def _placing(turn: int, places: np.ndarray, others: np.ndarray, least: int) -> Placing | None:
    """Return how one image lies in another by what most landmarks tell; None where too few agree."""
    a, b = _complex(places[:MOST] @ MATRICES[turn].T), _complex(others[:MOST])
    off = np.abs((a[:, None] - a) - (b[:, None] - b))
    agree = off <= OFF + LOOSE * np.abs(a[:, None] - a)
    kept = agree[agree.sum(1).argmax()]
    scale, shift = 1 + 0j, 0j
    for _ in range(3):
        if _number(a[kept], b[kept]) < least:
            return None
        x, y = a[kept] - a[kept].mean(), b[kept] - b[kept].mean()
        scale = complex((x.conj() @ y) / (x.conj() @ x))
        shift = complex(b[kept].mean() - scale * a[kept].mean())
        kept = np.abs(a * scale + shift - b) <= OFF
    is_near = abs(scale - abs(scale)) <= LOOSE and 1 / LARGEST <= abs(scale) <= LARGEST
    return Placing(turn, scale, shift) if is_near and _number(a[kept], b[kept]) >= least else None


def _number(one: np.ndarray, other: np.ndarray) -> int:
    """Return how many different places there are in both images."""
    return min(len(np.unique(one)), len(np.unique(other)))


def _is_centred(one: Pictured, other: Pictured, placing: Placing) -> bool:
    size = np.array([other.height, other.width])
    middle = placing.of(np.array([[one.height, one.width]]) / 2)[0]
    return bool((np.abs(middle - size / 2) <= CENTRED * size).all())


def _common(one: Pictured, other: Pictured, placing: Placing) -> tuple[float, float]:
    """Return the share of the smaller image that both show, and the correlation of their small pictures there."""
    if one.height * one.width < other.height * other.width:
        inverse = MATRICES[placing.turn].T
        back = int(np.argmax((inverse == MATRICES).all((1, 2))))
        origin = np.array([[placing.shift.real, placing.shift.imag]])
        scale = 1 / placing.scale
        if np.linalg.det(inverse) < 0:  # a mirrored picture is rotated the other way round
            scale = scale.conjugate()
        shift = -_complex(origin @ inverse.T)[0] * scale
        return _common(other, one, Placing(back, scale, complex(shift)))
    cells = len(one.small)
    size = np.array([one.height, one.width])
    steps = (np.arange(cells * INNER) + 0.5) / (cells * INNER)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    moved = placing.of(grid * size) / [other.height, other.width]
    inside = ((moved >= 0) & (moved <= 1)).all(1)
    sampled = map_coordinates(other.small, (moved * len(other.small) - 0.5).T, order=1, mode="nearest")
    blocks = [x.reshape(cells, INNER, cells, INNER).swapaxes(1, 2).reshape(cells**2, -1) for x in (sampled, inside)]
    common = blocks[1].all(1)
    if np.count_nonzero(common) < LEAST_CELLS:
        return 0.0, 0.0
    like = _likeness(one.small.ravel()[common], blocks[0].mean(1)[common], np.argwhere(np.ones((cells, cells)))[common])
    smaller = min(one.height * one.width, other.height * other.width)
    return min(1.0, float(inside.mean()) * one.height * one.width / smaller), like


def _likeness(one: np.ndarray, other: np.ndarray, places: np.ndarray) -> float:
    """Return the correlation of two areas (n,) apart from a slope across each, which many have."""
    slopes = np.column_stack([np.ones(len(places)), places]).astype(np.float64)
    rest = np.column_stack([one, other]).astype(np.float64)
    rest -= slopes @ np.linalg.lstsq(slopes, rest, rcond=None)[0]
    lengths = np.linalg.norm(rest, axis=0)
    return float(rest[:, 0] @ rest[:, 1] / lengths.prod()) if lengths.all() else 0.0
