"""Whether a model is right as often as it is sure, and the temperature that makes it so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from satseg.errors import DataError
from satseg.spec import IGNORE_INDEX

BINS = 15  # as in Guo et al. 2017
MAX_PIXELS = 20_000  # of an image, that a temperature is fitted on
COOLEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class Reliability:
    """Pixels by the confidence of their prediction: the highest class's probability, in 15 equal bins.

    Attributes:
        counts: Pixels (15,), int64.
        confidences: Sums of their confidences (15,).
        hits: How many of them are right (15,), int64.
    """

    counts: np.ndarray
    confidences: np.ndarray
    hits: np.ndarray

    @classmethod
    def empty(cls) -> Reliability:
        """Return the reliability of no pixel."""
        return cls(np.zeros(BINS, np.int64), np.zeros(BINS), np.zeros(BINS, np.int64))

    @classmethod
    def of(cls, logits: Tensor, mask: Tensor, valid: Tensor) -> Reliability:
        """Count a batch: logits (N, K, H, W), mask (N, H, W), valid (N, H, W)."""
        counted = valid & (mask != IGNORE_INDEX)
        confidence, predicted = logits.float().softmax(1).max(1)
        sure = confidence[counted].double()
        right = (predicted == mask)[counted]
        index = (sure * BINS).ceil().long().clamp(1, BINS) - 1  # a bin holds its upper border
        counts = torch.bincount(index, minlength=BINS)
        return cls(
            counts.cpu().numpy(),
            torch.bincount(index, sure, minlength=BINS).cpu().numpy(),
            torch.bincount(index[right], minlength=BINS).cpu().numpy(),
        )

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.counts + other.counts, self.confidences + other.confidences, self.hits + other.hits)

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy, weighted by pixels."""
        total = self.counts.sum()
        return float(np.abs(self.confidences - self.hits).sum() / total) if total else float("nan")

    def rows(self) -> list[tuple[float, int, float | None, float | None]]:
        """Return upper border, pixels, mean confidence and accuracy of each bin."""
        return [
            ((i + 1) / BINS, int(n), float(c / n) if n else None, float(h / n) if n else None)
            for i, (n, c, h) in enumerate(zip(self.counts, self.confidences, self.hits, strict=True))
        ]


def some_pixels(logits: Tensor, mask: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (P, K) and truth (P,) of evenly spread labelled pixels of one image, the same each time."""
    counted = (valid & (mask != IGNORE_INDEX)).flatten()
    places = counted.nonzero().squeeze(1)
    step = max(1, -(-len(places) // MAX_PIXELS))
    chosen = places[::step]
    return logits[0].flatten(1)[:, chosen].T.float().cpu(), mask.flatten()[chosen].long().cpu()


def fit_temperature(pixels: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the temperature that makes the truth of these pixels most likely (Guo et al. 2017).

    Args:
        pixels: Logits (P, K) and truth (P,), image by image.

    Raises:
        DataError: If there is no pixel.
    """
    parts = list(pixels)
    logits = torch.cat([part[0] for part in parts]) if parts else torch.empty(0, 1)
    truth = torch.cat([part[1] for part in parts]) if parts else torch.empty(0)
    if not len(truth):
        raise DataError("The split has no labelled pixel to fit a temperature on.")

    def surprise(log_temperature: float) -> float:
        return float(cross_entropy(logits / float(np.exp(log_temperature)), truth))

    found = minimize_scalar(surprise, bounds=(np.log(COOLEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))
