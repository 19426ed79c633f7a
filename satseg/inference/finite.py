"""Detection of models whose outputs are not finite, which may happen even if all weights are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from satseg.errors import ModelError
from satseg.inference.averaging import Segmenter
from satseg.spec import DatasetSpec, InputSpec


def finite_pixels(logits: Tensor, image: Tensor, valid: Tensor, spec: DatasetSpec, segmenter: Segmenter) -> Tensor:
    """Return the pixels (N, H, W) for which a model's logits are finite.

    A few input values far outside the training range may turn a whole window into NaN. So if no pixel is finite, the
    model is also tried on noise with the training's mean and standard deviation.

    Args:
        logits: The model's output (N, K, H, W).
        image: Its input, raw values (N, C, H, W).
        valid: Boolean (N, H, W), on the image's device.
        spec: Inputs of the model.
        segmenter: The model.

    Raises:
        ModelError: If the output for the noise is not finite either.
    """
    finite = logits.sum(1).isfinite()
    if finite.all() or not valid.any() or (finite & valid.to(finite.device)).any():
        return finite
    if not segmenter(_training_noise(image, spec.inputs[0]), torch.ones_like(valid)).isfinite().any():
        raise ModelError("The model computes nothing but NaN or infinite numbers: it is damaged, use another file.")
    return finite


def _training_noise(image: Tensor, source: InputSpec) -> Tensor:
    """Return noise with the training's statistics, in the shape and dtype of an image (N, C, H, W)."""
    mean, std = (np.array(numbers or ()).reshape(-1, 1, 1) for numbers in (source.mean, source.std))
    noise = np.random.default_rng(0).standard_normal(tuple(image.shape))
    raw = source.offset + source.scale * (mean + std * noise)
    if not image.is_floating_point():
        limits = torch.iinfo(image.dtype)
        raw = raw.clip(limits.min, limits.max)
    return torch.from_numpy(raw).to(image.dtype).to(image.device)
