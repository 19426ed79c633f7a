"""Replacement content for pixels whose effect on a prediction is tested."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from satseg.models import SegmentationNetwork

BLUR = 12.0  # pixels, standard deviation
ON_CPU, ON_GPU = 131_072, 2_097_152  # pixels per batch: few, to fit the CPU's cache


def blurred(image: Tensor, valid: Tensor) -> Tensor:
    """Return an image without its detail; invalid pixels have no weight.

    Args:
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).

    Returns:
        Float32 (1, C, H, W).
    """
    known = valid.cpu().float().numpy()[0]
    weight = gaussian_filter(known, BLUR) + 1e-6
    bands = image[0].float().masked_fill(~valid, 0.0).cpu().numpy()
    smooth = [torch.from_numpy(gaussian_filter(band, BLUR) / weight) for band in bands]
    return torch.stack(smooth)[None].to(image.device)


def shifted_content(image: Tensor, valid: Tensor) -> Tensor:
    """Return the image rolled by half of its valid part: real content in the wrong place, blurred where there is none.

    Args:
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).

    Returns:
        Float32 (1, C, H, W).
    """
    shift = int(valid[0].any(1).sum()) // 2, int(valid[0].any(0).sum()) // 2
    moved = image.float().roll(shift, (-2, -1))
    return torch.where(valid.roll(shift, (-2, -1))[:, None], moved, blurred(image, valid))


def neutral_content(image: Tensor, valid: Tensor) -> Tensor:
    """Return content that is neutral for the image: that of other places, without its detail.

    Blur alone keeps a place's brightness and colour, which identify classes such as water.

    Args:
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).

    Returns:
        Float32 (1, C, H, W).
    """
    return blurred(shifted_content(image, valid), valid)


def replaced(image: Tensor, content: Tensor, pixels: Tensor) -> Tensor:
    """Return the image (1, C, H, W) with other content at some pixels (H, W)."""
    return torch.where(pixels.to(image.device), content, image.float())


def batch_size(device: torch.device, pixels: int) -> int:
    """Return the number of pictures of this many pixels per batch."""
    return max(1, (ON_CPU if device.type == "cpu" else ON_GPU) // pixels)


def logits_of(network: SegmentationNetwork, variants: Iterable[Tensor], valid: Tensor) -> Iterator[Tensor]:
    """Yield logits (K, H, W) for variants (1, C, H, W) of an image, in order, computed in batches.

    Args:
        network: In evaluation mode.
        variants: Raw values.
        valid: Boolean (1, H, W), for all of them.
    """
    remaining, size = iter(variants), batch_size(valid.device, valid.shape[-2] * valid.shape[-1])
    while some := list(islice(remaining, size)):
        with torch.no_grad(), torch.autocast(valid.device.type, enabled=False):
            yield from network(torch.cat(some), valid.expand(len(some), -1, -1))
