"""Adapting pretrained RGB weights of the input layer to other bands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from satseg.errors import ConfigError

logger = logging.getLogger(__name__)

RULES = ("repeat", "mean", "random")
RGB = 3
CHOICES = (
    f"choose {', '.join(RULES)}, or give the names of the red, green and blue bands, such as [B4,B3,B2]; or start from "
    "random weights, backbone.weights=none"
)


def check_rule(rule: Any, bands: Sequence[str], encoder: str) -> None:
    """Check the rule by which pretrained weights are adapted; it is required for bands other than RGB.

    Args:
        rule: One of `RULES`, the names of the red, green and blue bands, or None.
        bands: Names of the bands that the network takes.
        encoder: Name of the backbone, for errors.

    Raises:
        ConfigError: If it is missing or invalid; lists the choices.
    """
    if rule is None and len(bands) != RGB:
        raise ConfigError(
            f"backbone.adapt: the weights of {encoder.removeprefix('tu-')} are for red, green and blue, but the images "
            f"have {len(bands)} bands: {CHOICES}."
        )
    if isinstance(rule, str | None):
        if rule not in (*RULES, None):
            raise ConfigError(f"backbone.adapt={rule}: {CHOICES}.")
        return
    names = list(rule) if isinstance(rule, Sequence) else []
    if len(names) != RGB or len({*names} & {*bands}) != RGB:
        raise ConfigError(
            f"backbone.adapt={rule}: expected the names of the red, green and blue bands; the images have "
            f"{', '.join(bands)}."
        )


def adapt_input(
    encoder: nn.Module, rule: str | Sequence[str] | None, bands: Sequence[str], source: Callable[[], nn.Module]
) -> None:
    """Set the first convolution's weights from those for red, green and blue.

    `repeat` assigns the kernels of red, green and blue to the bands in turn, as timm does; `mean` assigns their mean to
    all bands; with names, these three bands keep their kernels and the others get the mean. All are scaled by three
    over the number of bands, so that activations keep their magnitude. `random` initialises this layer at random.

    Args:
        encoder: A backbone with timm's weights; its first convolution is changed in place.
        rule: As for `check_rule`.
        bands: Names of the bands, in the network's order.
        source: Builds the backbone for three bands with its weights.
    """
    if rule is None or (len(bands) == RGB and isinstance(rule, str)):
        return
    logger.info("The backbone's first layer is adapted to the bands %s by: %s", ", ".join(bands), rule)
    if rule == "repeat":
        return
    first = _first_convolution(encoder)
    with torch.no_grad():
        if rule == "random":
            nn.init.kaiming_normal_(first, mode="fan_out", nonlinearity="relu")
            return
        rgb = _first_convolution(source())
        kernels = rgb.mean(1, keepdim=True).repeat(1, len(bands), 1, 1)
        for own, name in enumerate(rule if not isinstance(rule, str) else ()):
            kernels[:, list(bands).index(name)] = rgb[:, own]
        first.copy_(kernels * (RGB / len(bands)))


def rgb_backbone(encoder: str, options: dict[str, Any]) -> nn.Module:
    """Build a timm backbone for three bands with its pretrained weights."""
    overlay = options.get("pretrained_cfg_overlay")
    model: nn.Module = timm.create_model(
        encoder.removeprefix("tu-"), pretrained=True, features_only=True, pretrained_cfg_overlay=overlay
    )
    return model


def _first_convolution(encoder: nn.Module) -> Tensor:
    return next(p for p in encoder.parameters() if p.ndim == 4)
