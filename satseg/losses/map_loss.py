"""Base class of losses over neighbouring pixels."""

from __future__ import annotations

from torch import Tensor, nn


class MapLoss(nn.Module):
    """A term of `WeightedSum` over whole maps instead of a list of valid pixels, such as a boundary loss.

    `WeightedSum` cannot remove invalid pixels from a map: `forward` must give them no weight.
    """

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            logits: (N, K, H, W), float32.
            target: Class indices (N, H, W), int64; the ignore index, 255, wherever `valid` is False.
            valid: Boolean (N, H, W): labelled and not nodata. At least one pixel is.
        """
        raise NotImplementedError
