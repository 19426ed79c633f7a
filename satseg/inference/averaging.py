"""Test-time augmentation and ensembles: the mean probability over views of an image and over models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from satseg.errors import ConfigError
from satseg.models import SegmentationNetwork
from satseg.spec import DatasetSpec

Segmenter = Callable[[Tensor, Tensor], Tensor]  # raw images (N, C, H, W) and valid (N, H, W) to logits (N, K, H, W)


@dataclass(frozen=True)
class View:
    """An image rotated by quarter turns and optionally mirrored."""

    turns: int
    mirrored: bool

    def apply(self, image: Tensor) -> Tensor:
        """Transform the last two axes."""
        turned = torch.rot90(image, self.turns, (-2, -1))
        return turned.flip(-1) if self.mirrored else turned

    def undo(self, logits: Tensor) -> Tensor:
        """Transform the last two axes back."""
        back = logits.flip(-1) if self.mirrored else logits
        return torch.rot90(back, -self.turns, (-2, -1))


IDENTITY = View(0, False)
VIEWS: Mapping[str, tuple[View, ...]] = {
    "none": (IDENTITY,),
    "flips": (IDENTITY, View(0, True), View(2, True), View(2, False)),
    "d4": tuple(View(turns, mirrored) for turns in range(4) for mirrored in (False, True)),
}


def views(tta: str) -> tuple[View, ...]:
    """Return the views of test-time augmentation.

    Raises:
        ConfigError: If there is no such choice.
    """
    if tta not in VIEWS:
        raise ConfigError(f"tta={tta}: choose {', '.join(VIEWS)}.")
    return VIEWS[tta]


def averaged(segmenters: Sequence[Segmenter], tta_views: Sequence[View]) -> Segmenter:
    """Return a segmenter of the log of the mean probability over models and views; one of each gives its logits."""
    if len(segmenters) == 1 and tuple(tta_views) == (IDENTITY,):
        return segmenters[0]

    def segment(image: Tensor, valid: Tensor) -> Tensor:
        total: Tensor | None = None
        for segmenter in segmenters:
            for view in tta_views:
                logits = view.undo(segmenter(view.apply(image).contiguous(), view.apply(valid).contiguous()))
                probabilities = logits.float().softmax(1)
                total = probabilities if total is None else total.add_(probabilities)
        assert total is not None
        smallest = torch.finfo(torch.float32).tiny
        return (total / (len(segmenters) * len(tta_views))).clamp_min_(smallest).log_()

    return segment


class Ensemble(nn.Module):
    """Several networks as one: raw images in, log of their mean probability out.

    Args:
        networks: Each standardises raw values itself, and has its own temperature.
        spec: Their common spec.
    """

    def __init__(self, networks: Sequence[SegmentationNetwork], spec: DatasetSpec) -> None:
        super().__init__()
        self.networks, self.spec = nn.ModuleList(networks), spec

    def forward(self, image: Tensor, valid: Tensor) -> Tensor:
        """Segment images (N, C, H, W) with valid (N, H, W); return float32 (N, K, H, W)."""
        return averaged(list(self.networks), (IDENTITY,))(image, valid)


AnyNetwork = SegmentationNetwork | Ensemble
