"""Detection of images of the same ground after resampling, compression, rotation or mirroring, by their landmarks.

Each landmark is compared with its nearest neighbours only, so the time grows with the number of images, not of pairs.
An alignment suggested by several landmarks is verified on thumbnails of both images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from satseg.validate.facts import Landmarks
from satseg.validate.landmarks import QUANTISATION
from satseg.validate.near_duplicates import MIN_COMPLEXITY, spectral_complexity
from satseg.validate.orientations import ORIENTATIONS, orientation_matrix
from satseg.validate.similarity import NeighbourIndex

MIN_MATCHES = 6  # consistent pairs of landmarks
MIN_MATCHES_PLAIN = 12  # the same if one of the images has little structure
NUM_ORDERS, NUM_NEIGHBOURS = 6, 3  # orderings of landmarks, and neighbours compared on each side
MAX_DISTANCE = 0.5  # of descriptors, whose length is at most 1; about 0.2 for the same place
MAX_STRETCH = 0.12  # relative difference of distances between landmarks, for a difference in resolution
MAX_RESIDUAL = 2.5  # pixels between a landmark's actual and predicted position
MAX_LANDMARKS = 400  # of two images that are compared with each other
MAX_SCALE = 1.2  # ratio of resolutions
MIN_CORRELATION = 0.75  # of the common area
MIN_WHOLE_SHARE = 0.8  # common share of the pixels of a copy that may be enlarged by 10 %
MAX_OFF_CENTRE = 0.03  # of a side length, by which the centre of a copy may be shifted
MIN_CELLS = 16  # of thumbnails, in common
SUBSAMPLES = 3  # per side of a cell, which are averaged
MATRICES = np.stack([orientation_matrix(number) for number in range(len(ORIENTATIONS))])
RELATIVE_ORIENTATION = np.array(
    [[int(np.argmax((b @ a.T == MATRICES).all((1, 2)))) for b in MATRICES] for a in MATRICES]
)  # of one image to another, by a landmark's orientation in each


class AlignmentInput(NamedTuple):
    """An image's landmarks, size in pixels, and thumbnail (cells, cells)."""

    landmarks: Landmarks
    height: int
    width: int
    thumbnail: np.ndarray


class Alignment(NamedTuple):
    """Alignment of one image with another.

    Attributes:
        one: Index of the first image.
        other: Index of the second image.
        share: Share of the smaller image's pixels that both show.
        orientation: Index of ORIENTATIONS that maps the first image onto the second.
        zoom: Pixels of the second image per pixel of the first.
        correlation: Correlation of the common area.
        is_whole: True if they show the same from edge to edge, apart from an enlargement.
    """

    one: int
    other: int
    share: float
    orientation: int
    zoom: float
    correlation: float
    is_whole: bool


class SimilarityTransform(NamedTuple):
    """An orientation, a scale with a slight rotation, and a shift, as complex numbers of row + column * i."""

    orientation: int
    scale: complex
    shift: complex

    def apply(self, positions: np.ndarray) -> np.ndarray:
        """Return the positions (n, 2) in the second image of positions in the first."""
        moved = _complex(positions @ MATRICES[self.orientation].T) * self.scale + self.shift
        return np.stack([moved.real, moved.imag], axis=1)


def find_alignments(groups: Mapping[str, Sequence[AlignmentInput]]) -> Iterator[tuple[str, str, Alignment]]:
    """Find images of different groups that have an area in common.

    Args:
        groups: Images by name.

    Yields:
        Names of two groups, and the alignment of two of their images.
    """
    by_size = sorted((name for name in groups if groups[name]), key=lambda name: len(groups[name]))
    index = {name: NeighbourIndex(_descriptors(groups[name]), NUM_ORDERS, NUM_NEIGHBOURS) for name in by_size[1:]}
    is_varied = {
        name: spectral_complexity(np.stack([i.thumbnail for i in groups[name]])) >= MIN_COMPLEXITY for name in by_size
    }
    for one, other in combinations(by_size, 2):
        for i, j, orientation, positions, other_positions in _matched(groups[one], groups[other], index[other]):
            least = MIN_MATCHES if is_varied[one][i] and is_varied[other][j] else MIN_MATCHES_PLAIN
            transform = _fit_transform(orientation, positions, other_positions, least)
            if transform:
                a, b = groups[one][i], groups[other][j]
                share, correlation = _overlap(a, b, transform)
                if correlation >= MIN_CORRELATION:
                    is_whole = share >= MIN_WHOLE_SHARE and _is_centred(a, b, transform)
                    yield one, other, Alignment(i, j, share, orientation, abs(transform.scale), correlation, is_whole)


def _descriptors(images: Sequence[AlignmentInput]) -> np.ndarray:
    return np.concatenate([i.landmarks.descriptors for i in images])


def _matched(
    one: Sequence[AlignmentInput], other: Sequence[AlignmentInput], index: NeighbourIndex
) -> Iterator[tuple[int, int, int, np.ndarray, np.ndarray]]:
    """Yield two images, an orientation, and the positions (n, 2) in both of landmarks that match in it."""
    a, b = _rows(one), _rows(other)
    first, second = index.query(_descriptors(one), MAX_DISTANCE * QUANTISATION)
    orientation = RELATIVE_ORIENTATION[a[first, 3], b[second, 3]]
    keys = (a[first, 0] * len(other) + b[second, 0]) * len(ORIENTATIONS) + orientation
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    enough = ends - starts >= MIN_MATCHES
    for start, end in zip(starts[enough].tolist(), ends[enough].tolist(), strict=True):
        some = order[start:end]
        i, j, number = a[first[some[0]], 0], b[second[some[0]], 0], orientation[some[0]]
        yield int(i), int(j), int(number), a[first[some], 1:3] + 0.5, b[second[some], 1:3] + 0.5


def _rows(images: Sequence[AlignmentInput]) -> np.ndarray:
    """Return image index, row, column and orientation of all landmarks (n, 4)."""
    numbers = np.repeat(np.arange(len(images)), [len(i.landmarks.positions) for i in images])
    positions = np.concatenate([i.landmarks.positions for i in images])
    return np.column_stack([numbers, positions, np.concatenate([i.landmarks.orientations for i in images])])


def _complex(positions: np.ndarray) -> np.ndarray:
    numbers: np.ndarray = positions[:, 0] + 1j * positions[:, 1]
    return numbers


def _fit_transform(
    orientation: int, positions: np.ndarray, other_positions: np.ndarray, least: int
) -> SimilarityTransform | None:
    """Return the transform that most landmarks support; None if too few are consistent."""
    a, b = _complex(positions[:MAX_LANDMARKS] @ MATRICES[orientation].T), _complex(other_positions[:MAX_LANDMARKS])
    off = np.abs((a[:, None] - a) - (b[:, None] - b))
    consistent = off <= MAX_RESIDUAL + MAX_STRETCH * np.abs(a[:, None] - a)
    kept = consistent[consistent.sum(1).argmax()]
    scale, shift = 1 + 0j, 0j
    for _ in range(3):
        if _num_distinct(a[kept], b[kept]) < least:
            return None
        x, y = a[kept] - a[kept].mean(), b[kept] - b[kept].mean()
        scale = complex((x.conj() @ y) / (x.conj() @ x))
        shift = complex(b[kept].mean() - scale * a[kept].mean())
        kept = np.abs(a * scale + shift - b) <= MAX_RESIDUAL
    is_near = abs(scale - abs(scale)) <= MAX_STRETCH and 1 / MAX_SCALE <= abs(scale) <= MAX_SCALE
    return (
        SimilarityTransform(orientation, scale, shift) if is_near and _num_distinct(a[kept], b[kept]) >= least else None
    )


def _num_distinct(one: np.ndarray, other: np.ndarray) -> int:
    """Return the number of distinct positions, the smaller of both images."""
    return min(len(np.unique(one)), len(np.unique(other)))


def _is_centred(one: AlignmentInput, other: AlignmentInput, transform: SimilarityTransform) -> bool:
    size = np.array([other.height, other.width])
    middle = transform.apply(np.array([[one.height, one.width]]) / 2)[0]
    return bool((np.abs(middle - size / 2) <= MAX_OFF_CENTRE * size).all())


def _overlap(one: AlignmentInput, other: AlignmentInput, transform: SimilarityTransform) -> tuple[float, float]:
    """Return the common share of the smaller image, and the correlation of the thumbnails there."""
    if one.height * one.width < other.height * other.width:
        inverse = MATRICES[transform.orientation].T
        back = int(np.argmax((inverse == MATRICES).all((1, 2))))
        origin = np.array([[transform.shift.real, transform.shift.imag]])
        scale = 1 / transform.scale
        if np.linalg.det(inverse) < 0:  # mirroring reverses the direction of rotation
            scale = scale.conjugate()
        shift = -_complex(origin @ inverse.T)[0] * scale
        return _overlap(other, one, SimilarityTransform(back, scale, complex(shift)))
    cells = len(one.thumbnail)
    size = np.array([one.height, one.width])
    steps = (np.arange(cells * SUBSAMPLES) + 0.5) / (cells * SUBSAMPLES)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    moved = transform.apply(grid * size) / [other.height, other.width]
    inside = ((moved >= 0) & (moved <= 1)).all(1)
    sampled = map_coordinates(other.thumbnail, (moved * len(other.thumbnail) - 0.5).T, order=1, mode="nearest")
    blocks = [
        x.reshape(cells, SUBSAMPLES, cells, SUBSAMPLES).swapaxes(1, 2).reshape(cells**2, -1) for x in (sampled, inside)
    ]
    common = blocks[1].all(1)
    if np.count_nonzero(common) < MIN_CELLS:
        return 0.0, 0.0
    correlation = _detrended_correlation(
        one.thumbnail.ravel()[common], blocks[0].mean(1)[common], np.argwhere(np.ones((cells, cells)))[common]
    )
    smaller = min(one.height * one.width, other.height * other.width)
    return min(1.0, float(inside.mean()) * one.height * one.width / smaller), correlation


def _detrended_correlation(one: np.ndarray, other: np.ndarray, positions: np.ndarray) -> float:
    """Return the correlation of two areas (n,) after removing a linear trend from each."""
    slopes = np.column_stack([np.ones(len(positions)), positions]).astype(np.float64)
    rest = np.column_stack([one, other]).astype(np.float64)
    rest -= slopes @ np.linalg.lstsq(slopes, rest, rcond=None)[0]
    lengths = np.linalg.norm(rest, axis=0)
    return float(rest[:, 0] @ rest[:, 1] / lengths.prod()) if lengths.all() else 0.0
