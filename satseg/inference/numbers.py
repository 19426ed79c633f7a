"""Whether a model computes finite numbers: damaged ones may compute none though all of their weights are finite."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from satseg.errors import ModelError
from satseg.inference.combining import Segmenter
from satseg.spec import DatasetSpec, InputSpec


def has_numbers(logits: Tensor, image: Tensor, valid: Tensor, spec: DatasetSpec, segmenter: Segmenter) -> Tensor:
    """Return of which pixels (N, H, W) a model has computed finite numbers.

    A few values far beyond the training's may leave none of a whole window. So where there is none at all, the model is
    given noise with the mean and deviation of its training, of which it must compute some.

    Args:
        logits: What it has computed (N, K, H, W).
        image: Of these raw numbers (N, C, H, W).
        valid: Boolean (N, H, W), on the image's device.
        spec: Its inputs.
        segmenter: The model.

    Raises:
        ModelError: If it computes no finite number of anything.
    """
    finite = logits.sum(1).isfinite()
    if finite.all() or not valid.any() or (finite & valid.to(finite.device)).any():
        return finite
    if not segmenter(_usual(image, spec.inputs[0]), torch.ones_like(valid)).isfinite().any():
        raise ModelError("The model computes nothing but NaN or infinite numbers: it is damaged, so take another file.")
    return finite


def _usual(image: Tensor, source: InputSpec) -> Tensor:
    """Return raw numbers like those of the training, in the form of an image (N, C, H, W)."""
    mean, std = (np.array(numbers or ()).reshape(-1, 1, 1) for numbers in (source.mean, source.std))
    noise = np.random.default_rng(0).standard_normal(tuple(image.shape))
    raw = source.offset + source.scale * (mean + std * noise)
    if not image.is_floating_point():
        limits = torch.iinfo(image.dtype)
        raw = raw.clip(limits.min, limits.max)
    return torch.from_numpy(raw).to(image.dtype).to(image.device)
