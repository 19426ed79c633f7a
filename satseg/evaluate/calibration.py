"""Calibration: reliability diagrams, and fitting a temperature."""

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
MAX_PIXELS = 20_000  # per image, for fitting a temperature
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True)
class Reliability:
    """Pixels by the confidence of their prediction (the highest class probability), in 15 equal bins.

    Attributes:
        counts: Number of pixels (15,), int64.
        confidences: Sums of their confidences (15,).
        hits: Number of correct pixels (15,), int64.
    """

    counts: np.ndarray
    confidences: np.ndarray
    hits: np.ndarray

    @classmethod
    def empty(cls) -> Reliability:
        """Return empty bins."""
        return cls(np.zeros(BINS, np.int64), np.zeros(BINS), np.zeros(BINS, np.int64))

    @classmethod
    def of(cls, logits: Tensor, mask: Tensor, valid: Tensor) -> Reliability:
        """Bin the pixels of a batch: logits (N, K, H, W), mask (N, H, W), valid (N, H, W)."""
        counted = valid & (mask != IGNORE_INDEX)
        confidence, predicted = logits.float().softmax(1).max(1)
        confidence = confidence[counted].double()
        correct = (predicted == mask)[counted]
        index = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # bins include their upper edge
        counts = torch.bincount(index, minlength=BINS)
        return cls(
            counts.cpu().numpy(),
            torch.bincount(index, confidence, minlength=BINS).cpu().numpy(),
            torch.bincount(index[correct], minlength=BINS).cpu().numpy(),
        )

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.counts + other.counts, self.confidences + other.confidences, self.hits + other.hits)

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy, weighted by pixels."""
        total = self.counts.sum()
        return float(np.abs(self.confidences - self.hits).sum() / total) if total else float("nan")

    def rows(self) -> list[tuple[float, int, float | None, float | None]]:
        """Return the upper edge, pixel count, mean confidence and accuracy of each bin."""
        return [
            ((i + 1) / BINS, int(n), float(c / n) if n else None, float(h / n) if n else None)
            for i, (n, c, h) in enumerate(zip(self.counts, self.confidences, self.hits, strict=True))
        ]


def sample_pixels(logits: Tensor, mask: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (P, K) and truth (P,) of evenly spaced labelled pixels of one image; deterministic."""
    counted = (valid & (mask != IGNORE_INDEX)).flatten()
    labelled = counted.nonzero().squeeze(1)
    step = max(1, -(-len(labelled) // MAX_PIXELS))
    chosen = labelled[::step]
    return logits[0].flatten(1)[:, chosen].T.float().cpu(), mask.flatten()[chosen].long().cpu()


def fit_temperature(pixels: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the temperature that maximises the likelihood of these pixels (Guo et al. 2017).

    Args:
        pixels: Logits (P, K) and truth (P,) of each image.

    Raises:
        DataError: If there is no pixel.
    """
    parts = list(pixels)
    logits = torch.cat([part[0] for part in parts]) if parts else torch.empty(0, 1)
    truth = torch.cat([part[1] for part in parts]) if parts else torch.empty(0)
    if not len(truth):
        raise DataError("The split has no labelled pixel to fit a temperature on.")

    def nll(log_temperature: float) -> float:
        return float(cross_entropy(logits / float(np.exp(log_temperature)), truth))

    found = minimize_scalar(nll, bounds=(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)), method="bounded")
    return float(np.exp(found.x))
