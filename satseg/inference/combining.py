"""Several views of an image, and several models, as one: the mean of their probabilities."""

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
    """A quarter turn of an image, mirrored or not."""

    turns: int
    mirrored: bool

    def show(self, image: Tensor) -> Tensor:
        """Turn the last two axes."""
        turned = torch.rot90(image, self.turns, (-2, -1))
        return turned.flip(-1) if self.mirrored else turned

    def undo(self, logits: Tensor) -> Tensor:
        """Turn them back."""
        back = logits.flip(-1) if self.mirrored else logits
        return torch.rot90(back, -self.turns, (-2, -1))


SELF = View(0, False)
VIEWS: Mapping[str, tuple[View, ...]] = {
    "none": (SELF,),
    "flips": (SELF, View(0, True), View(2, True), View(2, False)),
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


def averaged(segmenters: Sequence[Segmenter], looks: Sequence[View]) -> Segmenter:
    """Return what gives the logarithm of the mean probability over models and views; one of each gives its logits."""
    if len(segmenters) == 1 and tuple(looks) == (SELF,):
        return segmenters[0]

    def segment(image: Tensor, valid: Tensor) -> Tensor:
        total: Tensor | None = None
        for segmenter in segmenters:
            for view in looks:
                logits = view.undo(segmenter(view.show(image).contiguous(), view.show(valid).contiguous()))
                shares = logits.float().softmax(1)
                total = shares if total is None else total.add_(shares)
        assert total is not None
        smallest = torch.finfo(torch.float32).tiny
        return (total / (len(segmenters) * len(looks))).clamp_min_(smallest).log_()

    return segment


class Ensemble(nn.Module):
    """Several networks as one: raw images in, the logarithm of the mean of their probabilities out.

    Args:
        networks: Each standardises raw numbers, and has a temperature, by itself.
        spec: What they have in common.
    """

    def __init__(self, networks: Sequence[SegmentationNetwork], spec: DatasetSpec) -> None:
        super().__init__()
        self.networks, self.spec = nn.ModuleList(networks), spec

    def forward(self, image: Tensor, valid: Tensor) -> Tensor:
        """Segment images (N, C, H, W) with valid (N, H, W); return float32 (N, K, H, W)."""
        return averaged(list(self.networks), (SELF,))(image, valid)


Scored = SegmentationNetwork | Ensemble
