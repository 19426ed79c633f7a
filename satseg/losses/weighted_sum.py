"""Training criterion: a weighted sum of losses over valid pixels, or over maps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from satseg.errors import ConfigError
from satseg.spec import IGNORE_INDEX


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


class WeightedSum(nn.Module):
    """Weighted sum of losses, which removes ignored and invalid pixels first.

    Args:
        terms: Partial constructors by name; each builds a loss of logits (1, K, P, 1) and classes (1, P, 1) of the P
            valid pixels, or a `MapLoss`.
        weights: Factor of each term; 1 by default.
        class_weights: Unused, as the datamodule computes them; see `set_class_weights`.
        ignore_index: Value of unlabelled pixels.
    """

    def __init__(
        self,
        terms: Mapping[str, Callable[..., nn.Module]],
        weights: Mapping[str, float] | None = None,
        class_weights: Any = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        self.makers = dict(terms)
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in terms}
        self.ignore_index = ignore_index
        self.terms = nn.ModuleDict({name: make() for name, make in terms.items()})

    def set_class_weights(self, weights: Tensor | None) -> None:
        """Pass class weights to every loss that takes them.

        Args:
            weights: One number per class, or None.

        Raises:
            ConfigError: If no loss takes weights.
        """
        if weights is None:
            return
        takers = [name for name, make in self.makers.items() if "weight" in inspect.signature(make).parameters]
        if not takers:
            raise ConfigError(
                f"loss.class_weights: {' and '.join(self.makers)} weights all classes equally; use class_weights="
                "none, or a loss that takes weights: cross_entropy, ce_dice or focal."
            )
        for name in takers:
            self.terms[name] = self.makers[name](weight=weights)

    def forward(self, logits: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            logits: (N, K, H, W).
            mask: Class indices (N, H, W), any integer dtype.
            valid: Boolean (N, H, W); all by default.

        Returns:
            A scalar in float32; zero, but connected to the graph, if no pixel is valid.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits, mask = logits.float(), mask.long()
            counted = mask != self.ignore_index
            if valid is not None:
                counted = counted & valid
            pixels = logits.permute(0, 2, 3, 1)[counted].T[None, :, :, None]  # (1, K, P, 1)
            if pixels.numel() == 0:
                return pixels.sum()
            listed = pixels, mask[counted][None, :, None]
            maps = logits, mask.masked_fill(~counted, self.ignore_index), counted
            values = {name: term(*(maps if isinstance(term, MapLoss) else listed)) for name, term in self.terms.items()}
            return torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
