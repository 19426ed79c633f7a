"""How far a map of evidence can be trusted."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from satseg.attribution.replacement import blurred, logits_of, replaced
from satseg.models import SegmentationNetwork

FRACTIONS = (0.0, 0.05, 0.15, 0.4, 1.0)  # of the valid pixels, strongest evidence first


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
    first = _order(evidence, valid[0])
    parts = [first <= fraction for fraction in FRACTIONS[1:-1]]
    deleted = [replaced(image, without, part) for part in parts]
    inserted = [replaced(image, without, ~part) for part in parts]
    variants = [image.float(), without, *deleted, *inserted]
    seen = [float(each.softmax(0)[target][pixels].mean()) for each in logits_of(network, variants, valid)]
    whole, nothing, falling, rising = seen[0], seen[1], seen[2 : 2 + len(parts)], seen[2 + len(parts) :]
    return Curves((whole, *falling, nothing), (nothing, *rising, whole))


def effect(network: SegmentationNetwork, image: Tensor, valid: Tensor, pixels: Tensor, target: int) -> float:
    """Return by how much the class's probability in a region falls when every pixel's detail is taken away."""
    seen = logits_of(network, [image.float(), blurred(image, valid)], valid)
    whole, nothing = (float(each.softmax(0)[target][pixels].mean()) for each in seen)
    return whole - nothing


def _order(evidence: Tensor, valid: Tensor) -> Tensor:
    """Return for each pixel (H, W) the share of valid pixels whose evidence is as strong; equals at random."""
    values = evidence[valid].cpu()
    shuffled = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    rank = torch.empty(len(values))
    rank[shuffled[values[shuffled].argsort(descending=True, stable=True)]] = torch.arange(1.0, len(values) + 1)
    shares = torch.ones_like(evidence)
    shares[valid] = (rank / len(values)).to(evidence.device)
    return shares


def moved(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return a map (H, W) moved by a random distance around its edges: as smooth, and about nothing."""
    height, width = values.shape
    rows, cols = (
        int(torch.randint(n // 4, max(n - n // 4, n // 4 + 1), (1,), generator=generator)) for n in (height, width)
    )
    return values.roll((rows, cols), (0, 1))


def randomised(network: SegmentationNetwork, images: Tensor, valid: Tensor, seed: int = 0) -> SegmentationNetwork:
    """Return a copy whose weights are shuffled within each tensor (after Adebayo et al., 2018).

    Args:
        network: Left as it was.
        images: Raw numbers (N, C, H, W), from which batch norms learn anew what they normalise.
        valid: Boolean (N, H, W).
        seed: Of the order.
    """
    twin, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
        for module in twin.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # its old numbers would flatten what it sees
                module.reset_running_stats()
                module.momentum = None  # a plain mean
        twin.train()
        twin(images.repeat(2, 1, 1, 1), valid.repeat(2, 1, 1))  # two at least: some norms see one pixel an image
    return twin.eval()


def similarity(first: Tensor, second: Tensor) -> float:
    """Cosine of two maps' positive parts, 0 to 1; the second one's sign is chosen so that it is largest.

    A random network's sign means nothing. NaN where a map has no such part, or holds what is no number.
    """
    one = first.flatten().double().clamp(min=0)
    cosines = []
    for other in (second, -second):
        part = other.flatten().double().clamp(min=0)
        length = one.norm() * part.norm()
        if bool(torch.isfinite(length)) and length > 0:
            cosines.append(float(one @ part / length))
    return max(cosines, default=math.nan)
