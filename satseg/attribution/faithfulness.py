"""Faithfulness of evidence maps: deletion and insertion curves, and randomised networks."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from satseg.attribution.replacement import logits_of, replaced, shifted_content
from satseg.models import SegmentationNetwork

FRACTIONS = (0.0, 0.03, 0.1, 0.3, 1.0)  # of the valid pixels, strongest evidence first


@dataclass(frozen=True)
class Curves:
    """Probability of the class in the region as pixels are removed, or restored, strongest evidence first.

    After Petsiuk, Das and Saenko (RISE, 2018). Removed pixels are replaced by real content from elsewhere in the image:
    blur would keep brightness and colour, which identify many classes, so that nothing would change.

    Attributes:
        deletion: At FRACTIONS; a faithful map makes it fall early.
        insertion: The same, starting from the replaced image; a faithful map makes it rise early.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean of insertion minus deletion over the fractions between none and all, -1 to 1; higher is better.

        Fractions have equal weight: what a map marks first matters most.
        """
        return mean(i - d for i, d in zip(self.insertion[1:-1], self.deletion[1:-1], strict=True))


def curves(
    network: SegmentationNetwork, image: Tensor, valid: Tensor, pixels: Tensor, target: int, maps: Sequence[Tensor]
) -> list[Curves]:
    """Return the deletion and insertion curves of each map.

    Args:
        network: In evaluation mode.
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).
        pixels: The region (H, W), boolean.
        target: Index of the class.
        maps: Each (H, W).
    """
    without = shifted_content(image, valid)
    orders = [_order(each, valid[0]) for each in maps]
    parts = [first <= fraction for first in orders for fraction in FRACTIONS[1:-1]]
    changed = (replaced(image, without, each) for part in parts for each in (part, ~part))
    seen = logits_of(network, itertools.chain([image.float(), without], changed), valid)
    whole, nothing, *rest = (float(each.softmax(0)[target][pixels].mean()) for each in seen)
    lines = np.reshape(rest, (len(maps), -1, 2)).tolist()
    return [
        Curves((whole, *(falls for falls, _ in line), nothing), (nothing, *(rises for _, rises in line), whole))
        for line in lines
    ]


def replacement_effect(
    network: SegmentationNetwork, image: Tensor, valid: Tensor, pixels: Tensor, target: int
) -> float:
    """Return the drop of the class's probability in a region when the whole image is replaced."""
    seen = logits_of(network, [image.float(), shifted_content(image, valid)], valid)
    whole, nothing = (float(each.softmax(0)[target][pixels].mean()) for each in seen)
    return whole - nothing


def _order(evidence: Tensor, valid: Tensor) -> Tensor:
    """Return for each pixel (H, W) the share of valid pixels with at least as strong evidence; ties in random order."""
    values = evidence[valid].cpu()
    shuffled = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    rank = torch.empty(len(values))
    rank[shuffled[values[shuffled].argsort(descending=True, stable=True)]] = torch.arange(1.0, len(values) + 1)
    shares = torch.ones_like(evidence)
    shares[valid] = (rank / len(values)).to(evidence.device)
    return shares


def shifted_map(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return a map (H, W) rolled by a random distance: as smooth, but meaningless."""
    height, width = values.shape
    rows, cols = (
        int(torch.randint(n // 4, max(n - n // 4, n // 4 + 1), (1,), generator=generator)) for n in (height, width)
    )
    return values.roll((rows, cols), (0, 1))


def nearness(pixels: Tensor) -> Tensor:
    """Return the signed distance to a region's border (H, W), positive inside: a map that needs no model."""
    inside = pixels.cpu().numpy()
    depth = distance_transform_edt(inside) - distance_transform_edt(~inside)
    return torch.from_numpy(depth).float().to(pixels.device)


def randomised(network: SegmentationNetwork, images: Tensor, valid: Tensor, seed: int = 0) -> SegmentationNetwork:
    """Return a copy whose weights are shuffled within each tensor (after Adebayo et al., 2018).

    Args:
        network: Left unchanged.
        images: Raw values (N, C, H, W), from which batch norms re-estimate their statistics.
        valid: Boolean (N, H, W).
        seed: Seed of the shuffling.
    """
    twin, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
        for module in twin.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # the old statistics would flatten its inputs
                module.reset_running_stats()
                module.momentum = None  # a plain mean
        twin.train()
        twin(images.repeat(2, 1, 1, 1), valid.repeat(2, 1, 1))  # at least two: some norms see one pixel per image
    return twin.eval()
