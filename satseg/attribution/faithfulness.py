"""How far a map of evidence can be trusted."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from satseg.attribution.replacement import blurred, replaced
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork

FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)  # of the pixels, strongest evidence first


@dataclass(frozen=True)
class Curves:
    """Probability of the class in the region as pixels are taken away, or put back, strongest evidence first.

    After Petsiuk, Das and Saenko (RISE, 2018), with blur for what is taken away.

    Attributes:
        deletion: At FRACTIONS; a map that tells the truth makes it fall early.
        insertion: The same from the blurred image up; it rises early.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def score(self) -> float:
        """Area under insertion less area under deletion, -1 to 1; the higher, the better."""
        return float(np.trapezoid(self.insertion, FRACTIONS) - np.trapezoid(self.deletion, FRACTIONS))


def curves(
    network: SegmentationNetwork, image: Tensor, valid: Tensor, pixels: Tensor, target: int, evidence: Tensor
) -> Curves:
    """Take away, and put back, what a map says is important.

    Args:
        network: In evaluation mode.
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).
        pixels: The region (H, W), boolean.
        target: Index of the class.
        evidence: The map (H, W).
    """
    without = blurred(image, valid)
    rank = torch.empty(evidence.numel(), dtype=torch.int64, device=evidence.device)
    rank[evidence.flatten().argsort(descending=True, stable=True)] = torch.arange(
        evidence.numel(), device=evidence.device
    )
    first = (rank.view_as(evidence) + 1) / evidence.numel()

    def probability(shown: Tensor) -> float:
        return float(segment(network, shown, valid).softmax(1)[0, target][pixels].mean())

    strongest = [first <= fraction for fraction in FRACTIONS]
    return Curves(
        tuple(probability(replaced(image, without, part)) for part in strongest),
        tuple(probability(replaced(image, without, ~part)) for part in strongest),
    )


def moved(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return a map (H, W) moved by a random distance around its edges: as smooth, and about nothing."""
    height, width = values.shape
    rows, cols = (
        int(torch.randint(n // 4, max(n - n // 4, n // 4 + 1), (1,), generator=generator)) for n in (height, width)
    )
    return values.roll((rows, cols), (0, 1))


def randomised(network: SegmentationNetwork, seed: int = 0) -> SegmentationNetwork:
    """Return a copy whose weights are shuffled within each tensor (after Adebayo et al., 2018)."""
    twin, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return twin


def similarity(first: Tensor, second: Tensor) -> float:
    """Rank correlation of two maps' magnitudes, -1 to 1; 0 where one of them is flat or no number."""
    magnitudes = [m.abs().flatten().cpu().numpy() for m in (first, second)]
    if any(not np.isfinite(m).all() or m.std() == 0 for m in magnitudes):
        return 0.0
    return float(spearmanr(*magnitudes).statistic)
