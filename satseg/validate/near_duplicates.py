"""Detection of near duplicates, also rotated, mirrored or enlarged, without comparing all pairs.

Each picture is described by the magnitudes of its lowest frequencies, which rotation and mirroring do not change. Only
neighbours among these are compared, so the time grows with the number of pictures, not of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np
from scipy.fft import dctn

from satseg.validate.orientations import ORIENTATIONS, reorient
from satseg.validate.similarity import NeighbourIndex, cell_weights, unit_rows

MIN_CORRELATION = 0.9  # of the pictures' gradients; below about 0.8 for different photographs
MIN_FAINT_CORRELATION = 0.85  # the same with faint gradients amplified: coasts or streets can look alike
MIN_Z = 15.0  # standard deviations under random signs: pictures of a few shapes can look alike
MIN_COMPLEXITY = 16.0  # simpler pictures, such as a coast or the stripes of a field, match by chance
ZOOMS = (1.0, 1.05, 1.1)  # candidates; the correlation drops little in between
DESCRIPTOR_SIZE = 4  # frequencies per side that describe a picture
SPECTRUM_SIZE = 8  # frequencies per side that are compared first
MIN_SPECTRUM_CORRELATION = 0.8
NUM_ORDERS, NUM_NEIGHBOURS = 4, 4  # orderings of pictures, and neighbours compared on each side
MAX_DISTANCE = 0.6  # of descriptors; below 0.1 for most copies, about 0.7 for different photographs
CHUNK = 512  # pairs at a time
SIGNS = np.array(
    [[[1, right], [down, down * right]] for down in (1, -1) for right in (1, -1)], np.float32
)  # of mirrored frequencies


class NearDuplicate(NamedTuple):
    """Two pictures that show nearly the same.

    Attributes:
        one: Index of the first picture.
        other: Index of the second picture.
        correlation: Correlation of their gradients.
        orientation: Index of ORIENTATIONS that maps the first picture onto the second.
        zoom: Enlargement of the first picture's centre in the second; below 1 for the reverse.
    """

    one: int
    other: int
    correlation: float
    orientation: int
    zoom: float


def spectral_complexity(pictures: np.ndarray) -> np.ndarray:
    """Return the effective number of frequencies (n,) in the gradients of pictures (n, side, side), without trends."""
    steps = np.arange(pictures.shape[1], dtype=np.float64)
    steps = (steps - steps.mean()) / steps.std()
    detrended = pictures - pictures.mean((1, 2), keepdims=True)
    for slope in (steps[:, None], steps):
        detrended = detrended - (detrended * slope).mean((1, 2), keepdims=True) * slope
    number = np.arange(pictures.shape[1])
    kept = np.cos(number * np.pi / (2 * len(number))) ** 2  # attenuation of each frequency by smoothing
    spectra = dctn(detrended, axes=(1, 2), norm="ortho") * np.hypot(number[:, None], number) * kept[:, None] * kept
    energy = (spectra**2).reshape(len(pictures), -1)
    waves_of: np.ndarray = energy.sum(1) ** 2 / np.maximum((energy**2).sum(1), 1e-300)
    return waves_of


def find_near_duplicates(groups: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, NearDuplicate]]:
    """Find near duplicates between groups of pictures; pictures with little structure are left out.

    Args:
        groups: Pictures (n, side, side) of one size, float32.

    Yields:
        Names of two groups, and the match of two of their pictures; each pair once.
    """
    varied_indices = {
        name: np.flatnonzero(spectral_complexity(pictures) >= MIN_COMPLEXITY) for name, pictures in groups.items()
    }
    groups = {name: _detrend(groups[name][numbers]) for name, numbers in varied_indices.items() if len(numbers)}
    spectra = {name: _spectra(pictures) for name, pictures in groups.items()}
    index = {name: NeighbourIndex(_describe(some), NUM_ORDERS, NUM_NEIGHBOURS) for name, some in spectra.items()}
    found: dict[tuple[str, int, str, int], tuple[str, str, NearDuplicate]] = {}
    for zoom in ZOOMS:
        for one, other in permutations(groups, 2) if zoom > 1 else combinations(groups, 2):
            for match in _matches(groups[one], groups[other], spectra[other], index[other], zoom):
                match = match._replace(
                    one=int(varied_indices[one][match.one]), other=int(varied_indices[other][match.other])
                )
                first, second = sorted(((one, match.one), (other, match.other)))
                key = (*first, *second)
                if key not in found or match.correlation > found[key][2].correlation:
                    found[key] = one, other, match
    yield from found.values()


def _matches(
    one: np.ndarray, other: np.ndarray, other_spectra: np.ndarray, index: NeighbourIndex, zoom: float
) -> Iterator[NearDuplicate]:
    weights = cell_weights(one.shape[1], one.shape[1], zoom).astype(np.float32)
    enlarged = weights @ one @ weights.T
    spectra = _spectra(enlarged)
    first, second = index.query(_describe(spectra), MAX_DISTANCE)
    parts = range(0, len(first), CHUNK)
    plausible = [_are_plausible(spectra[first[i : i + CHUNK]], other_spectra[second[i : i + CHUNK]]) for i in parts]
    kept = np.flatnonzero(np.concatenate([np.zeros(0, bool), *plausible]))
    for start in range(0, len(kept), CHUNK):
        a, b = first[kept[start : start + CHUNK]], second[kept[start : start + CHUNK]]
        orientation, correlation = _best_orientations(enlarged[a], other[b])
        for k in np.flatnonzero(correlation >= MIN_CORRELATION).tolist():
            yield NearDuplicate(int(a[k]), int(b[k]), float(correlation[k]), int(orientation[k]), zoom)


def _spectra(pictures: np.ndarray) -> np.ndarray:
    """Return the lowest frequencies of the gradients (n, SPECTRUM_SIZE, SPECTRUM_SIZE), independent of brightness."""
    steps = np.arange(SPECTRUM_SIZE)
    spectra = dctn(pictures, axes=(1, 2), norm="ortho")[:, :SPECTRUM_SIZE, :SPECTRUM_SIZE] * np.hypot(
        steps[:, None], steps
    )
    return unit_rows(spectra.reshape(len(spectra), -1)).reshape(spectra.shape)


def _are_plausible(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return a mask of pairs similar in any orientation by their lowest frequencies: mirroring negates odd ones."""
    pairs = (len(one), SPECTRUM_SIZE // 2, 2, SPECTRUM_SIZE // 2, 2)  # even and odd
    other = other.reshape(pairs)
    best = np.zeros(len(one), np.float32)
    for some in (one, one.swapaxes(1, 2)):
        sums = np.einsum("nipjq,nipjq->npq", some.reshape(pairs), other)
        for signs in SIGNS:
            best = np.maximum(best, (sums * signs).sum((1, 2)))
    return best >= MIN_SPECTRUM_CORRELATION


def _describe(spectra: np.ndarray) -> np.ndarray:
    """Return rotation- and mirror-invariant descriptors (n, 20): sums and differences of transposed frequencies."""
    spectra = np.abs(spectra[:, :DESCRIPTOR_SIZE, :DESCRIPTOR_SIZE])
    opposite = spectra.swapaxes(1, 2)
    rows, columns = np.triu_indices(DESCRIPTOR_SIZE)
    low, high = np.abs(spectra - opposite)[:, rows, columns], (spectra + opposite)[:, rows, columns]
    return unit_rows(np.concatenate([high * np.where(rows == columns, np.sqrt(0.5), 1), low], axis=1))


def _best_orientations(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each pair's best orientation and the correlation in it; 0 where it may be chance."""
    target = _gradients(other)
    sides = np.stack([_gradients(reorient(one, number)) for number in range(len(ORIENTATIONS))])
    found = np.einsum("tij,ij->ti", sides, target)
    best, correlation = found.argmax(0), found.max(0)
    plausible = np.flatnonzero(correlation >= MIN_CORRELATION)
    products = _compress(sides[best[plausible], plausible]) * _compress(target[plausible])
    sums, spread = products.sum(1), np.sqrt((products**2).sum(1))
    correlation[plausible[(sums < MIN_FAINT_CORRELATION) | (sums < MIN_Z * spread)]] = 0
    return best, correlation


def _compress(gradients: np.ndarray) -> np.ndarray:
    """Return gradients with their dynamic range compressed, so that faint ones count nearly as much as strong ones."""
    return unit_rows(np.sign(gradients) * np.abs(gradients) ** 0.25)


def _gradients(pictures: np.ndarray) -> np.ndarray:
    """Return smoothed differences of neighbouring cells, normalised: independent of brightness and contrast."""
    for axis in (1, 2):
        moved = np.moveaxis(pictures, axis, 0)
        pictures = np.moveaxis(moved[:-2] + 2 * moved[1:-1] + moved[2:], 0, axis)
    return unit_rows(
        np.concatenate([np.diff(pictures, axis=axis).reshape(len(pictures), -1) for axis in (1, 2)], axis=1)
    )


def _detrend(pictures: np.ndarray) -> np.ndarray:
    """Return pictures without a linear trend of brightness, such as from illumination."""
    steps = np.arange(pictures.shape[1], dtype=np.float32)
    down, across = (np.median(np.diff(pictures, axis=axis), axis=(1, 2))[:, None, None] for axis in (1, 2))
    detrended: np.ndarray = pictures - down * steps[:, None] - across * steps
    return detrended
