"""What stands in for the pixels whose part in a prediction is tested."""

from __future__ import annotations

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

BLUR = 12.0  # pixels, standard deviation


def blurred(image: Tensor, valid: Tensor) -> Tensor:
    """Return an image without its detail; pixels that are not valid count for nothing.

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


def elsewhere(image: Tensor) -> Tensor:
    """Return the image moved by half its size: real content, in the wrong place."""
    return image.float().roll((image.shape[-2] // 2, image.shape[-1] // 2), (-2, -1))


def replaced(image: Tensor, content: Tensor, pixels: Tensor) -> Tensor:
    """Return the image (1, C, H, W) with other content at some pixels (H, W)."""
    return torch.where(pixels.to(image.device), content, image.float())
