"""Network on raw images of any size, which keeps preprocessing the same in training and serving."""

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
    """Standardises raw pixel values to float32, and sets invalid pixels to 0.

    Its constants come from the spec and are not part of the weights.

    Args:
        spec: Spec of the input, with mean and std.
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
                f"The input {spec.name} cannot be standardised: its scale, offset, mean and std exceed float32."
            )
        self.register_buffer("shift", shift.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("divisor", divisor.view(1, -1, 1, 1), persistent=False)
        self.shift: Tensor
        self.divisor: Tensor

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Standardise (N, C, H, W); valid (N, H, W) is derived from nodata and non-finite values by default."""
        with torch.autocast(image.device.type, enabled=False):  # 65535 overflows float16
            raw = image.float()
            if valid is None:
                valid = self.valid(raw)
            return ((raw - self.shift) / self.divisor).masked_fill(~valid[:, None], 0.0)

    def valid(self, raw: Tensor) -> Tensor:
        """Return a mask of valid pixels (N, H, W), finite and not nodata; see `is_nodata_per_band`."""
        usable = torch.isfinite(raw).all(1)
        if self.nodata is not None and not math.isnan(self.nodata):
            missing = raw == self.nodata
            usable &= ~(missing.any(1) if self.one_band_marks else missing.all(1))
        return usable


class SegmentationNetwork(nn.Module):
    """Maps raw images to logits.

    Args:
        net: Network on standardised images, whose sizes are multiples of 32.
        spec: Inputs and classes, complete with mean and std.
        config: Plain dict to rebuild `net` from.
        temperature: Divisor of the logits that calibrates confidence.
    """

    def __init__(self, net: nn.Module, spec: DatasetSpec, config: dict[str, Any], temperature: float = 1.0) -> None:
        super().__init__()
        if len(spec.inputs) != 1 or spec.inputs[0].num_timesteps != 1:
            raise ModelError("A network of this version takes one input, with one image per sample.")
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
            image: Raw pixel values (N, C, H, W), any dtype and any size.
            valid: Boolean (N, H, W); derived from nodata by default.

        Returns:
            Logits (N, K, H, W), float32.

        Raises:
            ModelError: If the number of bands is not that of the training.
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
        """Return the input of `net`: images standardised, and padded at the right and bottom to a multiple of 32."""
        height, width = image.shape[-2:]
        return pad(self.normaliser(image, valid), (0, -width % STRIDE, 0, -height % STRIDE))


def channels_last(network: SegmentationNetwork) -> None:
    """Convert the weights to channels-last memory format, which is faster on GPUs and many CPUs."""
    network.net.to(memory_format=torch.channels_last)
