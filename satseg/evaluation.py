"""Scoring a split: the same code in validation, at the end of training and in `satseg.evaluate`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from satseg.errors import DataError
from satseg.files import write_json, write_text
from satseg.inference.combining import SELF, View, views
from satseg.inference.windows import PLAN, segment
from satseg.metrics import SCORES, Scores, confusion_matrices
from satseg.models import SegmentationNetwork

PROTOCOL = SCORES | {"windows": PLAN}
Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class BatchScores:
    """What one batch of whole images adds to a split's scores.

    Attributes:
        predicted: Class indices (N, H, W).
        matrices: Confusion matrices (N, K, K), int64.
        loss: Mean over the batch's valid pixels; 0 without a criterion.
        pixels: How many they are.
    """

    predicted: Tensor
    matrices: Tensor
    loss: Tensor
    pixels: int


def score_batch(
    network: SegmentationNetwork,
    batch: Mapping[str, Any],
    criterion: Criterion | None = None,
    looks: Sequence[View] = (SELF,),
) -> BatchScores:
    """Segment a batch and count right and wrong pixels."""
    if "failure" in batch:
        batch["failure"].raise_error()
    image, mask, valid = batch["image"], batch["mask"], batch["valid"]
    logits = segment(network, image, valid, looks)
    predicted = logits.argmax(1)
    matrices = confusion_matrices(predicted, mask, valid, network.spec.num_classes)
    pixels = int(matrices.sum())
    if criterion is None:
        return BatchScores(predicted, matrices, logits.new_zeros(()), pixels)
    # image by image, so that the split's loss does not depend on the batch size
    counts = matrices.sum((1, 2))
    with torch.no_grad():
        losses = torch.stack(
            [criterion(logits[i : i + 1], mask[i : i + 1], valid[i : i + 1]) for i in range(len(logits))]
        )
    return BatchScores(predicted, matrices, (losses * counts).sum() / max(pixels, 1), pixels)


@dataclass(frozen=True)
class ImageScores:
    """One image's name and counts."""

    name: str
    scores: Scores


@dataclass(frozen=True)
class EvaluationResult:
    """A split's scores, whole and by image; `tta` says which views of an image were averaged."""

    class_names: tuple[str, ...]
    images: list[ImageScores]
    tta: str = "none"

    @property
    def protocol(self) -> dict[str, str]:
        """What was scored how."""
        return PROTOCOL | {"tta": self.tta}

    @cached_property
    def matrix(self) -> np.ndarray:
        """Counts (K, K) over all images, rows truth."""
        total: np.ndarray = np.sum([image.scores.matrix for image in self.images], axis=0)
        return total

    @cached_property
    def scores(self) -> Scores:
        """Scores over the pixels of the whole split."""
        return Scores.from_matrix(self.matrix, self.class_names)

    def worst(self, count: int) -> list[ImageScores]:
        """Return the images with the lowest mIoU."""
        scored = [image for image in self.images if image.scores.matrix.sum()]
        return sorted(scored, key=lambda image: image.scores.miou)[:count]

    def table(self, split: str) -> str:
        """Return the scores as a Markdown table that says what was averaged how."""
        scores, values = self.scores, self.scores.as_dict()
        truth = scores.matrix.sum(1)
        share = truth / max(truth.sum(), 1)
        averaged = "" if self.tta == "none" else f", the mean over the views of tta={self.tta}"
        lines = [f"{split}: {len(self.images)} images, {int(truth.sum())} pixels{averaged}", ""]
        lines += [
            "| class | IoU | F1 | precision | recall | share of pixels |",
            "| --- | --: | --: | --: | --: | --: |",
        ]
        for i, name in enumerate(self.class_names):
            row = (scores.iou[i], scores.f1[i], scores.precision[i], scores.recall[i], share[i])
            lines.append(f"| {name} | " + " | ".join("–" if np.isnan(v) else f"{v:.4f}" for v in row) + " |")
        lines += ["", "| score | value | how |", "| --- | --: | --- |"]
        lines += [
            f"| {name} | {values[name]:.4f} | {PROTOCOL[name]} |"
            for name in ("miou", "miou_present", "micro_iou", "f1", "accuracy")
        ]
        return "\n".join(lines)


def evaluate(
    network: SegmentationNetwork, loader: Iterable[Mapping[str, Any]], device: torch.device, tta: str = "none"
) -> EvaluationResult:
    """Score every image of a loader, in float32.

    Args:
        network: The model.
        loader: Whole images.
        device: Where the network is.
        tta: Test-time augmentation: `none`, `flips` or `d4`.

    Raises:
        ConfigError: If there is no such test-time augmentation.
        DataError: If no pixel of the split is labelled.
    """
    network.eval()
    looks = views(tta)
    names = network.spec.class_names
    images: list[ImageScores] = []
    for batch in loader:
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        scored = score_batch(network, moved, looks=looks)
        for name, matrix in zip(moved["name"], scored.matrices, strict=True):
            images.append(ImageScores(name, Scores.from_matrix(matrix, names)))
    result = EvaluationResult(names, images, tta)
    if not images or result.matrix.sum() == 0:
        raise DataError("The split has no labelled pixel to score.")
    return result


def write_evaluation(result: EvaluationResult, folder: Path, split: str) -> None:
    """Write scores.json, scores.md, images.csv (worst first) and confusion_matrix.csv."""
    write_json(folder / "scores.json", {"split": split, "scores": result.scores.as_dict(), "protocol": result.protocol})
    write_text(folder / "scores.md", result.table(split) + "\n")
    ious = [f"iou/{name}" for name in result.class_names]
    rows: list[list[Any]] = [["name", "pixels", "miou", "accuracy", *ious]]
    for image in result.worst(len(result.images)):
        values = image.scores.as_dict()
        numbers = [values["miou"], values["accuracy"], *(values[i] for i in ious)]
        rows.append([image.name, int(image.scores.matrix.sum()), *("" if np.isnan(n) else n for n in numbers)])
    _write_csv(folder / "images.csv", rows)
    header = ["truth / prediction", *result.class_names]
    body = [[name, *row] for name, row in zip(result.class_names, result.matrix.tolist(), strict=True)]
    _write_csv(folder / "confusion_matrix.csv", [header, *body])


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
