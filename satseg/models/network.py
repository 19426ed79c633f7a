"""A network that takes raw images of any size, so that training and serving cannot drift apart."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from satseg.errors import ModelError
from satseg.spec import DatasetSpec, InputSpec, is_nodata_per_band

STRIDE = 32  # of every encoder that is shipped


class Normaliser(nn.Module):
    """Raw numbers to standardised float32; pixels that are not valid become 0.

    Its constants come from the spec, so they are no part of the weights.

    Args:
        spec: The input, with mean and std.
    """

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        if spec.mean is None or spec.std is None:
            raise ModelError(f"The input {spec.name} has no mean and std to standardise by.")
        self.nodata = spec.nodata
        self.one_band_marks = spec.nodata is not None and is_nodata_per_band(spec.nodata, spec.dtype)
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        # (x - offset) / scale, then (unit - mean) / std, as one step
        shift, divisor = spec.offset + spec.scale * mean, spec.scale * std
        if not (
            shift.isfinite().all() and divisor.isfinite().all() and (divisor >= torch.finfo(torch.float32).tiny).all()
        ):
            raise ModelError(
                f"The input {spec.name} cannot be standardised: its scale, offset, mean and std are beyond float32."
            )
        self.register_buffer("shift", shift.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("divisor", divisor.view(1, -1, 1, 1), persistent=False)
        self.shift: Tensor
        self.divisor: Tensor

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Standardise (N, C, H, W); valid (N, H, W) is found from nodata and finite numbers by default."""
        with torch.autocast(image.device.type, enabled=False):  # 65535 is infinite in float16
            raw = image.float()
            if valid is None:
                valid = self.valid(raw)
            return ((raw - self.shift) / self.divisor).masked_fill(~valid[:, None], 0.0)

    def valid(self, raw: Tensor) -> Tensor:
        """Return which pixels (N, H, W) are usable: finite, and not nodata; see `is_nodata_per_band`."""
        usable = torch.isfinite(raw).all(1)
        if self.nodata is not None and not math.isnan(self.nodata):
            missing = raw == self.nodata
            usable &= ~(missing.any(1) if self.one_band_marks else missing.all(1))
        return usable


class SegmentationNetwork(nn.Module):
    """Raw images in, logits out.

    Args:
        net: Takes standardised images whose size is a multiple of 32.
        spec: Inputs and classes, complete with mean and std.
        config: Plain dict that `net` can be built from again.
        temperature: Logits are divided by it, so that confidence is what accuracy is.
    """

    def __init__(self, net: nn.Module, spec: DatasetSpec, config: dict[str, Any], temperature: float = 1.0) -> None:
        super().__init__()
        if len(spec.inputs) != 1 or spec.inputs[0].num_timesteps != 1:
            raise ModelError("A network of this version takes one input, with one image a sample.")
        self.net, self.spec, self.config, self.temperature = net, spec, config, temperature
        self.normaliser = Normaliser(spec.inputs[0])

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        encoder: nn.Module = self.net.encoder  # type: ignore[assignment]
        return encoder

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Segment images.

        Args:
            image: Raw numbers (N, C, H, W), any dtype and any size.
            valid: Boolean (N, H, W); found from nodata by default.

        Returns:
            Logits (N, K, H, W), float32.

        Raises:
            ModelError: If the image has not the bands that the model was trained on.
        """
        if image.ndim != 4 or image.shape[1] != self.spec.in_channels:
            bands = ", ".join(self.spec.inputs[0].bands)
            raise ModelError(
                f"The model takes images (N, {self.spec.in_channels}, H, W) with the bands {bands}, "
                f"but got {tuple(image.shape)}."
            )
        height, width = image.shape[-2:]
        logits: Tensor = self.net(self.standardise(image, valid))
        logits = logits[..., :height, :width].float()
        return logits if self.temperature == 1 else logits / self.temperature

    def standardise(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return what `net` sees of raw images: standardised, and padded right and below to a multiple of 32."""
        height, width = image.shape[-2:]
        return pad(self.normaliser(image, valid), (0, -width % STRIDE, 0, -height % STRIDE))


def channels_last(network: SegmentationNetwork) -> None:
    """Lay the weights out for channels-last convolutions, which are faster on GPUs and many processors."""
    network.net.to(memory_format=torch.channels_last)
