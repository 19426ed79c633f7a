"""Fit of an image's labels to the prediction as a function of their displacement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor
from torch.nn.functional import pad

from satseg.data.rasters.header import Window

REACH = 32  # largest displacement that is tried along each axis, in pixels
TILE = (32, 256)  # smallest and largest edge in pixels of the parts that are tested on their own
OVERLAP = 0.5  # share of the labelled pixels that must remain on the image
DISCOUNT_DISTANCE = 256  # pixels at which a gain counts nothing, to prefer near displacements along straight edges
MIN_OFFSET = 1.5  # pixels below which a displacement is ignored
MAX_CHANCE = 0.01  # probability that as many images share a displacement by chance


class Offset(NamedTuple):
    """Offset of labels from where they fit the prediction, in pixels to the right and down."""

    right: int
    down: int

    @property
    def pixels(self) -> float:
        """Length in pixels."""
        return math.hypot(*self)


@dataclass(frozen=True)
class Displacement:
    """Gain in fit from displacing the labels of a part of an image.

    Attributes:
        box: The part, in pixels of the image.
        gains: In mean log-probability of the labels (2 * REACH + 1, 2 * REACH + 1) when an offset of `REACH - row`
            pixels down and `REACH - column` to the right is undone; NaN where too few labels remain.
        contradicted: Lead of the predicted classes over the labelled ones in mean log-probability.
    """

    box: Window
    gains: np.ndarray
    contradicted: float

    def gain(self, offset: Offset) -> float:
        """Return the gain from undoing an offset; 0 where it is unknown."""
        value = float(self.gains[REACH - offset.down, REACH - offset.right])
        return value if math.isfinite(value) else 0.0

    def best(self, usual: Offset) -> tuple[Offset, float]:
        """Return the offset with the largest gain over the usual one, and that gain.

        A straight edge fits equally well anywhere along itself, so of offsets with nearly the same gain the one nearest
        to the usual one is taken. An offset at the limit of the search is rejected: a larger one would gain more.
        """
        gains = np.nan_to_num(self.gains.astype(np.float64) - self.gain(usual), nan=-1.0)
        rows, cols = np.ogrid[-REACH : REACH + 1, -REACH : REACH + 1]
        near = 1 - np.hypot(rows + usual.down, cols + usual.right) / DISCOUNT_DISTANCE
        row, col = np.unravel_index(int((gains * near).argmax()), gains.shape)
        found = Offset(REACH - int(col), REACH - int(row))
        if max(map(abs, found)) >= REACH or math.dist(found, usual) < MIN_OFFSET or gains[row, col] <= 0:
            return usual, 0.0
        return found, float(gains[row, col])


def displacements(
    log_probabilities: Tensor, truth: Tensor, counted: Tensor, valid: Tensor
) -> tuple[Displacement, list[Displacement]] | None:
    """Return the gains from displacing all of an image's labels, and those of each of its parts.

    The mean log-probability of the labels is computed for all displacements at once, as a cross-correlation by FFT,
    part by part, so that memory does not grow with the image.

    Args:
        log_probabilities: (K, H, W), bounded from below.
        truth: Class indices (H, W), 0 to K - 1 where counted.
        counted: True where there is a label (H, W), boolean.
        valid: True where the image has data (H, W), boolean.

    Returns:
        None if the labels have fewer than two classes, so that no displacement is better than another.
    """
    labels = torch.where(counted, truth, -1)
    present = [k for k in torch.unique(labels).tolist() if k >= 0]
    if len(present) < 2:
        return None
    height, width = truth.shape
    scores = pad(log_probabilities * valid, (REACH, REACH, REACH, REACH))
    inside = pad(valid.float(), (REACH, REACH, REACH, REACH))
    parts, total = [], _Sums()
    for box in _tiles(height, width):
        rows, cols = slice(box.row, box.row + box.height), slice(box.col, box.col + box.width)
        around = slice(rows.start, rows.stop + 2 * REACH), slice(cols.start, cols.stop + 2 * REACH)
        sums = _correlate(labels[rows, cols], scores[:, *around], inside[around])
        total = total + sums
        parts.append(sums.displacement(box))
    return total.displacement(Window(0, 0, width, height)), parts


@dataclass(frozen=True)
class _Sums:
    """Gain and number of labelled pixels by displacement, and both sums without displacement."""

    gains: Tensor | float = 0.0
    pixels: Tensor | float = 0.0
    contradicted: float = 0.0
    labelled: int = 0

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.gains + other.gains,
            self.pixels + other.pixels,
            self.contradicted + other.contradicted,
            self.labelled + other.labelled,
        )

    def displacement(self, box: Window) -> Displacement:
        gains, pixels = (torch.as_tensor(t).cpu().numpy().astype(np.float64) for t in (self.gains, self.pixels))
        enough = pixels > max(1.0, OVERLAP * self.labelled)
        mean = np.divide(gains, pixels, out=np.full(gains.shape, np.nan), where=enough)
        return Displacement(box, mean.astype(np.float16), self.contradicted / max(1, self.labelled))


def _correlate(labels: Tensor, scores: Tensor, inside: Tensor) -> _Sums:
    """Correlate a part's labels (H, W) with the scores (K, H + 2 * REACH, W + 2 * REACH) around it."""
    height, width = labels.shape
    size = scores.shape[-2:]
    counted = labels >= 0
    here = scores[:, REACH : REACH + height, REACH : REACH + width]
    own = here.gather(0, labels.clamp_min(0)[None].long())[0] * counted
    present = [k for k in torch.unique(labels).tolist() if k >= 0]
    drawn = torch.stack([*(labels == k for k in present), counted]).float()
    of_labels = torch.fft.rfft2(torch.cat([drawn, own[None]]), s=size).conj()
    of_scores = torch.fft.rfft2(torch.cat([scores[present], inside[None]]), s=size)
    classes = len(present)
    gained = (of_labels[:classes] * of_scores[:classes]).sum(0) - of_labels[classes + 1] * of_scores[classes]
    both = torch.fft.irfft2(torch.stack([gained, of_labels[classes] * of_scores[classes]]), s=size)
    gains, pixels = both[:, : 2 * REACH + 1, : 2 * REACH + 1]
    contradicted = float(((here.amax(0) - own) * counted).sum())
    return _Sums(gains, pixels, contradicted, int(counted.sum()))


def _tiles(height: int, width: int) -> Iterator[Window]:
    """Yield tiles of an image: halves along both axes, cut further if they are large."""
    rows, cols = (_edges(length) for length in (height, width))
    for top, bottom in pairwise(rows):
        for left, right in pairwise(cols):
            yield Window(left, top, right - left, bottom - top)


def _edges(length: int) -> list[int]:
    count = min(max(2, math.ceil(length / TILE[1])), max(1, length // TILE[0]))
    return [round(i * length / count) for i in range(count + 1)]


def usual_offset(found: Sequence[Displacement]) -> Offset:
    """Return the offset that most images' labels share; zero if there is none.

    It maximises the median gain over the images, which a few displaced masks do not affect.
    """
    nothing = Offset(0, 0)
    if not found:
        return nothing
    middle = np.nan_to_num(
        np.median(np.stack([each.gains for each in found]), axis=0), nan=-1.0
    )  # NaN unless known for all images
    if middle.max() <= 0:
        return nothing
    row, col = np.unravel_index(int(middle.argmax()), middle.shape)
    offset = Offset(REACH - int(col), REACH - int(row))
    agreeing = sum(each.gain(offset) > 0 for each in found)
    return offset if binom.sf(agreeing - 1, len(found), 0.5) <= MAX_CHANCE else nothing
