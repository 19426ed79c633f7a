"""Scoring of a split, shared by validation, the end of training and `satseg.evaluate`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import max_pool2d

from satseg.errors import ConfigError, DataError
from satseg.evaluate.metrics import SCORES, Reliability, Scores, confusion_matrices
from satseg.inference.averaging import IDENTITY, AnyNetwork, View, views
from satseg.inference.windows import PLAN, segment
from satseg.progress import Progress
from satseg.runs.finding import named_models
from satseg.spec import IGNORE_INDEX

PROTOCOL = SCORES | {"windows": PLAN}
CALIBRATION = "mean gap between confidence and accuracy over 15 bins, weighted by pixels"
Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class BatchScores:
    """Contribution of one batch of whole images to a split's scores.

    Attributes:
        predicted: Class indices (N, H, W).
        matrices: Confusion matrices (N, K, K), int64.
        loss: Mean over the batch's valid pixels; 0 without a criterion.
        pixels: Number of these pixels.
        logits: (N, K, H, W), float32.
    """

    predicted: Tensor
    matrices: Tensor
    loss: Tensor
    pixels: int
    logits: Tensor


def score_batch(
    network: AnyNetwork,
    batch: Mapping[str, Any],
    criterion: Criterion | None = None,
    tta_views: Sequence[View] = (IDENTITY,),
) -> BatchScores:
    """Segment a batch and compute its confusion matrices."""
    if "failure" in batch:
        batch["failure"].raise_error()
    image, mask, valid = batch["image"], batch["mask"], batch["valid"]
    logits = segment(network, image, valid, tta_views)
    predicted = logits.argmax(1)
    matrices = confusion_matrices(predicted, mask, valid, network.spec.num_classes)
    pixels = int(matrices.sum())
    if criterion is None:
        return BatchScores(predicted, matrices, logits.new_zeros(()), pixels, logits)
    # per image, so that the split's loss does not depend on the batch size
    counts = matrices.sum((1, 2))
    with torch.no_grad():
        losses = torch.stack(
            [criterion(logits[i : i + 1], mask[i : i + 1], valid[i : i + 1]) for i in range(len(logits))]
        )
    return BatchScores(predicted, matrices, (losses * counts).sum() / max(pixels, 1), pixels, logits)


@dataclass(frozen=True)
class ImageScores:
    """An image's name, the tile or scene that it belongs to, and its scores."""

    name: str
    group: str
    scores: Scores


@dataclass(frozen=True)
class Scoring:
    """Scoring options.

    Attributes:
        tta: Test-time augmentation: `none`, `flips` or `d4`.
        ignore_edges: Pixels within this distance of another class do not count, as their labels are the least certain.
        models: Number of models that are averaged.
    """

    tta: str = "none"
    ignore_edges: int = 0
    models: int = 1

    @property
    def suffix(self) -> str:
        """Suffix of the output folder's name; empty for the default options."""
        edges = f"_edges{self.ignore_edges}" if self.ignore_edges else ""
        return ("" if self.tta == "none" else f"_{self.tta}") + edges

    @property
    def description(self) -> str:
        """Non-default options as text, for the table of scores."""
        mean = "" if self.models == 1 else f", the mean of {self.models} models"
        views = "" if self.tta == "none" else f", the mean over the views of tta={self.tta}"
        return mean + views + (f", without {self.ignore_edges} px along class borders" if self.ignore_edges else "")


PLAIN = Scoring()


def read_scoring(cfg: DictConfig) -> Scoring:
    """Return the scoring options of `satseg.evaluate`.

    Raises:
        ConfigError: If an option is out of range, or options conflict.
    """
    views(cfg.tta)
    if not isinstance(cfg.ignore_edges, int) or not 0 <= cfg.ignore_edges <= 100:
        raise ConfigError(f"ignore_edges={cfg.ignore_edges}: expected a number of pixels from 0 to 100.")
    if cfg.ignore_edges and cfg.map_areas:
        raise ConfigError("map_areas= needs all pixels, as most errors are along borders: leave ignore_edges at 0.")
    several = len(named_models(cfg.checkpoint, Path(cfg.runs_dir), verbose=False))
    if cfg.calibrate and several > 1:
        raise ConfigError(
            "calibrate=true fits one model: calibrate each separately, and average the model_calibrated.safetensors."
        )
    return Scoring(cfg.tta, cfg.ignore_edges, several)


@dataclass(frozen=True)
class EvaluationResult:
    """A split's scores, overall and per image.

    Attributes:
        scoring: The options.
        reliability: Confidence and accuracy of the predictions.
        seconds: Time for inference, without reading.
    """

    class_names: tuple[str, ...]
    images: list[ImageScores]
    scoring: Scoring = PLAIN
    reliability: Reliability = field(default_factory=Reliability.empty)
    seconds: float = float("nan")

    @property
    def protocol(self) -> dict[str, str]:
        """Definition of the scores, with the options used."""
        several = {} if self.scoring.models == 1 else {"models": f"mean of the probabilities of {self.scoring.models}"}
        return PROTOCOL | {"tta": self.scoring.tta, "ignore_edges": f"{self.scoring.ignore_edges} px"} | several

    @cached_property
    def matrix(self) -> np.ndarray:
        """Pixel counts (K, K) over all images, rows truth."""
        total: np.ndarray = np.sum([image.scores.matrix for image in self.images], axis=0)
        return total

    @cached_property
    def scores(self) -> Scores:
        """Scores over all pixels of the split."""
        return Scores.from_matrix(self.matrix, self.class_names)

    def worst(self, count: int) -> list[ImageScores]:
        """Return the images with the lowest mIoU."""
        scored = [image for image in self.images if image.scores.matrix.sum()]
        return sorted(scored, key=lambda image: image.scores.miou)[:count]

    def table(self, split: str) -> str:
        """Return the scores as a Markdown table that includes their definitions."""
        scores, values = self.scores, self.scores.as_dict()
        truth = scores.matrix.sum(1)
        share = truth / max(truth.sum(), 1)
        lines = [f"{split}: {len(self.images)} images, {int(truth.sum())} pixels{self.scoring.description}", ""]
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
        lines.append(f"| calibration error | {self.reliability.error:.4f} | {CALIBRATION} |")
        return "\n".join(lines)


def evaluate(
    network: AnyNetwork,
    loader: Iterable[Mapping[str, Any]],
    device: torch.device,
    scoring: Scoring = PLAIN,
    groups: Mapping[str, str] | None = None,
) -> EvaluationResult:
    """Score every image of a loader, in float32.

    Args:
        network: A model or an ensemble.
        loader: Batches of whole images.
        device: Device of the network.
        scoring: The options.
        groups: The tile or scene of each image; by default each image is its own group.

    Raises:
        ConfigError: If the test-time augmentation is unknown.
        DataError: If the split has no labelled pixel.
    """
    network.eval()
    tta_views, names = views(scoring.tta), network.spec.class_names
    images: list[ImageScores] = []
    reliability, seconds = Reliability.empty(), 0.0
    progress = Progress("Scoring", len(loader) if isinstance(loader, Sized) else None, "images")
    for batch in loader:
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        if "mask" in moved:
            moved["mask"] = without_edges(moved["mask"], scoring.ignore_edges)
        start = time.perf_counter()
        scored = score_batch(network, moved, tta_views=tta_views)
        seconds += time.perf_counter() - start  # counting has synchronised with the device
        reliability += Reliability.of(scored.logits, moved["mask"], moved["valid"])
        for name, matrix in zip(moved["name"], scored.matrices, strict=True):
            images.append(ImageScores(name, (groups or {}).get(name, name), Scores.from_matrix(matrix, names)))
        progress.add()
    result = EvaluationResult(names, images, scoring, reliability, seconds)
    if not images or result.matrix.sum() == 0:
        raise DataError("The split has no labelled pixel to score.")
    return result


def without_edges(mask: Tensor, distance: int) -> Tensor:
    """Ignore the pixels of a mask (N, H, W) that are within `distance` rows and columns of another class.

    As in the ISPRS benchmarks, with a square instead of a disk. Ignored pixels are not a class.
    """
    if distance == 0:
        return mask
    ignored = mask == IGNORE_INDEX
    value, size = mask.float(), 2 * distance + 1

    def highest(numbers: Tensor) -> Tensor:
        return max_pool2d(numbers.masked_fill(ignored, -torch.inf), size, stride=1, padding=distance)

    return mask.masked_fill(highest(value) != -highest(-value), IGNORE_INDEX)
