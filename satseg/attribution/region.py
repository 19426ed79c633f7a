"""Regions whose logits are explained, after Seg-Grad-CAM (Vinogradova, Dibrov and Myers, 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from satseg.errors import ConfigError

CHOICES = "predicted, true, a box [column, row, width, height], a pixel [column, row], or the path of a mask file"


@dataclass(frozen=True)
class Region:
    """A boolean mask (H, W) of pixels, and its description."""

    pixels: Tensor
    name: str


def find_region(
    wanted: str | Sequence[int], class_index: int, class_name: str, predicted: Tensor, truth: Tensor | None = None
) -> Region:
    """Return the requested pixels; there may be none.

    Args:
        wanted: `predicted` or `true` pixels of the class, a box [column, row, width, height], or one pixel.
        class_index: The class.
        class_name: Its name, for errors.
        predicted: Class indices (H, W).
        truth: True class indices (H, W), if known.

    Raises:
        ConfigError: If it lies outside the image, needs an unknown truth, or cannot be parsed.
    """
    if not isinstance(wanted, str):
        return Region(_box(wanted, predicted), "pixel" if len(wanted) == 2 else "box")
    if wanted not in ("predicted", "true"):
        raise ConfigError(f"region={wanted}: choose {CHOICES}.")
    if wanted == "true" and truth is None:
        raise ConfigError("region=true needs labels: explain a split (split=test) instead of input=.")
    source = truth if wanted == "true" and truth is not None else predicted
    return Region(source == class_index, f"{wanted} as {class_name}")


def _box(wanted: Sequence[int], predicted: Tensor) -> Tensor:
    height, width = predicted.shape
    whole = len(wanted) in (2, 4) and all(isinstance(v, int) and not isinstance(v, bool) for v in wanted)
    if not whole:
        raise ConfigError(f"region={list(wanted)}: choose {CHOICES}.")
    col, row, wide, high = (*wanted, 1, 1) if len(wanted) == 2 else tuple(wanted)
    if not (0 <= col < width and 0 <= row < height and wide > 0 and high > 0):
        raise ConfigError(f"region={list(wanted)} lies outside the image of {width} x {height} pixels.")
    pixels = torch.zeros_like(predicted, dtype=torch.bool)
    pixels[row : row + high, col : col + wide] = True
    return pixels


class RegionScore(nn.Module):
    """The explained score: the sum of a class's logits over a region, or its lead over another class's.

    Args:
        network: Raw images in, logits out.
        valid: Boolean (1, H, W).
        pixels: The region (H, W), boolean.
        target: Index of the class.
        against: Index of the class to contrast with, if any.
    """

    def __init__(
        self, network: nn.Module, valid: Tensor, pixels: Tensor, target: int, against: int | None = None
    ) -> None:
        super().__init__()
        self.network, self.valid, self.pixels = network, valid, pixels
        self.target, self.against = target, against

    def forward(self, image: Tensor) -> Tensor:
        """Return one score per image (N,) for raw images (N, C, H, W)."""
        logits = self.network(image, self.valid.expand(len(image), -1, -1))
        evidence: Tensor = logits[:, self.target]
        if self.against is not None:
            evidence = evidence - logits[:, self.against]
        return evidence[:, self.pixels].sum(1)


def class_leads(pixels: Tensor, *questions: tuple[int, int | None]) -> Callable[[Tensor], Tensor]:
    """Return a function from logits (K, H, W) to one score per question (M,), summed over a region.

    Args:
        pixels: The region (H, W), boolean.
        questions: Index of a class, and of the one whose logit is subtracted; without the latter, the score is the
            class's log-odds, which do not change if all logits rise alike.
    """

    def leads(logits: Tensor) -> Tensor:
        seen = logits[:, pixels]
        return torch.stack([(seen[target] - _rival(seen, target, against)).sum() for target, against in questions])

    return leads


def _rival(seen: Tensor, target: int, against: int | None) -> Tensor:
    return torch.cat([seen[:target], seen[target + 1 :]]).logsumexp(0) if against is None else seen[against]
