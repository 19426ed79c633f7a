"""Whether a model computes finite numbers: damaged ones may compute none though all of their weights are finite."""

from __future__ import annotations

import torch
from torch import Tensor

from satseg.errors import ModelError
from satseg.inference.combining import Segmenter
from satseg.spec import DatasetSpec


def has_numbers(logits: Tensor, image: Tensor, valid: Tensor, spec: DatasetSpec, segmenter: Segmenter) -> Tensor:
    """Return of which pixels (N, H, W) a model has computed finite numbers.

    A few values far beyond the training's may leave none of a whole window. So where there is none at all, the model is
    given the mean of its training, of which it must compute some.

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
    source = spec.inputs[0]
    usual = torch.tensor([source.offset + source.scale * mean for mean in source.mean or ()], dtype=torch.float64)
    usual = usual.to(image.dtype).to(image.device).view(1, -1, 1, 1).expand_as(image).contiguous()
    if not segmenter(usual, torch.ones_like(valid)).isfinite().any():
        raise ModelError("The model computes nothing but NaN or infinite numbers: it is damaged, so take another file.")
    return finite
