"""Confusion matrices and the scores derived from them, and the calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from satseg.spec import IGNORE_INDEX

# Definition of each score, for the model file and for tables.
SCORES = {
    "pixels": "all pixels of whole images that are labelled, not ignored and not nodata; each once",
    "iou/<class>": "TP / (TP + FP + FN) over the pixels of the whole split",
    "miou": "mean of iou over the classes that occur in truth or prediction (macro)",
    "miou_present": "mean of iou over the classes that occur in truth",
    "micro_iou": "sum of TP / sum of (TP + FP + FN) over classes",
    "f1": "mean of 2 TP / (2 TP + FP + FN) over the classes that occur in truth or prediction (macro)",
    "accuracy": "share of pixels whose class is right",
    "absent": "a class that occurs in neither truth nor prediction has no score (NaN) and is left out of means",
    "precision_of_numbers": "float32 logits; counts are int64",
}
BINS = 15  # of confidence, as in Guo et al. 2017


class ConfusionMatrix(Metric):
    """Pixel counts by true class (rows) and predicted class (columns), int64, summed over devices.

    Args:
        num_classes: Number of rows and columns.
    """

    full_state_update = False
    matrix: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, matrices: Tensor) -> None:
        """Add matrices (N, K, K)."""
        self.matrix += matrices.sum(0)

    def compute(self) -> Tensor:
        """Return the matrix (K, K)."""
        return self.matrix


def confusion_matrices(predicted: Tensor, mask: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """Return the confusion matrix of each image.

    Args:
        predicted: Class indices (N, H, W).
        mask: True class indices (N, H, W); IGNORE_INDEX does not count.
        valid: Boolean (N, H, W); invalid pixels do not count.
        num_classes: K.

    Returns:
        int64 (N, K, K), rows truth, columns prediction.
    """
    matrices = []
    for prediction, truth, usable in zip(predicted, mask, valid, strict=True):
        counted = usable & (truth != IGNORE_INDEX)
        pairs = truth[counted].long() * num_classes + prediction[counted].long()
        matrices.append(torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes))
    return torch.stack(matrices)


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix; per-class scores are NaN for a class that occurs nowhere."""

    class_names: tuple[str, ...]
    matrix: np.ndarray

    @classmethod
    def from_matrix(cls, matrix: Tensor | np.ndarray, class_names: Sequence[str]) -> Scores:
        """Return the scores of int64 counts (K, K), rows truth."""
        array = matrix.cpu().numpy() if isinstance(matrix, Tensor) else np.asarray(matrix)
        return cls(tuple(class_names), array.astype(np.int64))

    @classmethod
    def empty(cls, class_names: Sequence[str]) -> Scores:
        """Return the scores of an empty confusion matrix, all NaN."""
        return cls.from_matrix(np.zeros((len(class_names), len(class_names))), class_names)

    @property
    def _hits(self) -> np.ndarray:
        return np.diag(self.matrix)

    @property
    def _truth(self) -> np.ndarray:
        total: np.ndarray = self.matrix.sum(1)
        return total

    @property
    def _predicted(self) -> np.ndarray:
        total: np.ndarray = self.matrix.sum(0)
        return total

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union per class."""
        return _ratio(self._hits, self._truth + self._predicted - self._hits)

    @property
    def f1(self) -> np.ndarray:
        """F1 (Dice) per class."""
        return _ratio(2 * self._hits, self._truth + self._predicted)

    @property
    def precision(self) -> np.ndarray:
        """Share of the pixels predicted as the class that belong to it."""
        return _ratio(self._hits, self._predicted)

    @property
    def recall(self) -> np.ndarray:
        """Share of the pixels of the class that are predicted as it."""
        return _ratio(self._hits, self._truth)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur in truth or prediction."""
        return _mean(self.iou)

    @property
    def accuracy(self) -> float:
        """Share of pixels whose class is predicted correctly."""
        return float(_ratio(self._hits.sum(), self.matrix.sum()))

    def as_dict(self) -> dict[str, float]:
        """Return all scores by name."""
        union = self._truth + self._predicted - self._hits
        scores = {
            "miou": self.miou,
            "miou_present": _mean(self.iou[self._truth > 0]),
            "micro_iou": float(_ratio(self._hits.sum(), union.sum())),
            "f1": _mean(self.f1),
            "accuracy": self.accuracy,
        }
        for kind in ("iou", "f1", "precision", "recall"):
            values = getattr(self, kind)
            scores |= {f"{kind}/{n}": float(v) for n, v in zip(self.class_names, values, strict=True)}
        return scores


def _ratio(above: np.ndarray | np.int64, below: np.ndarray | np.int64) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(above, np.float64) / np.asarray(below, np.float64)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


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
