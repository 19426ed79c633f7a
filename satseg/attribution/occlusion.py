"""Occlusion maps: evidence from replacing parts of the image, without gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from satseg.attribution.replacement import logits_of, neutral_content, replaced
from satseg.models import SegmentationNetwork

BLOCKS = 8  # along the longer side of the image
OCCLUSION_PASSES = BLOCKS**2 + 1


def occlusion(
    network: SegmentationNetwork, image: Tensor, valid: Tensor, measure: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the drop of some scores when each block of the image is replaced (after Zeiler and Fergus, 2014).

    A confident network has flat gradients that do not show what its confidence rests on; occlusion does. Blocks do not
    overlap, and their number, and so the time, does not grow with the image.

    Args:
        network: In evaluation mode.
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).
        measure: Maps logits (K, H, W) to scores (M,).

    Returns:
        Float32 (M, H, W), interpolated between the blocks' centres; negative where a score rises.
    """
    height, width = image.shape[-2:]
    side = -(-max(height, width) // BLOCKS)
    corners = list(itertools.product(range(0, height, side), range(0, width, side)))
    content, blocks = neutral_content(image, valid), torch.zeros(len(corners), height, width, dtype=torch.bool)
    for block, (row, col) in zip(blocks, corners, strict=True):
        block[row : row + side, col : col + side] = True
    variants = itertools.chain([image.float()], (replaced(image, content, block) for block in blocks))
    whole, *parts = [measure(logits) for logits in logits_of(network, variants, valid)]
    grid = torch.stack([whole - part for part in parts]).float()
    grid = grid.T.reshape(1, len(whole), -(-height // side), -(-width // side))
    smooth = interpolate(grid, scale_factor=float(side), mode="bilinear", align_corners=False)
    return smooth[0, :, :height, :width].contiguous()
