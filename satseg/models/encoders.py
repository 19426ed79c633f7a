"""Resolving names of backbones, and explaining those that do not work."""

from __future__ import annotations

import difflib

import segmentation_models_pytorch as smp
import timm
import torch

from satseg.models.catalogue import FAMILIES

PREFIX = "tu-"  # SMP's prefix of timm's backbones
MAX_CHARACTERS = 200  # shown of a library's error


def with_prefix(encoder: str) -> str:
    """Return SMP's name of a timm backbone, `tu-convnext_tiny` for `convnext_tiny`; other names are unchanged."""
    return f"{PREFIX}{encoder}" if not encoder.startswith(PREFIX) and _in_timm(encoder) else encoder


def is_known(encoder: str) -> bool:
    """Return True if timm or SMP has a backbone of that name."""
    return encoder in smp.encoders.encoders or _in_timm(encoder)


def _in_timm(encoder: str) -> bool:
    return bool(timm.is_model(encoder.removeprefix(PREFIX).partition(".")[0]))


def unknown_backbone_message(encoder: str) -> str:
    """Return the message for an unknown backbone, with similar names."""
    names = list(dict.fromkeys([*timm.list_models(), *smp.encoders.encoders]))
    near = difflib.get_close_matches(encoder.removeprefix(PREFIX), names, n=4)
    hint = f"did you mean {', '.join(near)}?" if near else "choose a name from timm.list_models()."
    return f"backbone.encoder_name={encoder}: there is no such backbone; {hint}"


def unsuitable_backbone_message(decoder: str, encoder: str, error: Exception) -> str:
    """Return the message for a backbone on which a decoder does not work: the reason, and families that work.

    Args:
        decoder: Name of the decoder's class.
        encoder: Name of a known backbone.
        error: The error raised when building or testing the network.
    """
    name = encoder.removeprefix(PREFIX)
    return (
        f"{decoder} does not work on the backbone {name}: {_reason(name, error)}. Choose one of a family that works: "
        f"{', '.join(FAMILIES)}, and most others whose feature maps halve step by step to 1/32; "
        "docs/models.md lists tested pairs."
    )


def _reason(name: str, error: Exception) -> str:
    if _in_timm(name):
        steps = _reductions(name)
        if len(set(steps)) == 1:
            return f"its feature maps all have one size, 1/{steps[0]} of the image, but the decoder joins several sizes"
        config = timm.get_pretrained_cfg(name)
        if config is not None and config.fixed_input_size:
            return f"it only takes images of {config.input_size[1]} x {config.input_size[2]} pixels"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:MAX_CHARACTERS].rstrip('.')}"


def _reductions(name: str) -> list[int]:
    """Return the strides of a timm backbone's feature maps; an empty list if it has none."""
    try:
        with torch.device("meta"):
            backbone = timm.create_model(name, features_only=True)
    except Exception:  # the exception differs between architectures
        return []
    return [int(step) for step in backbone.feature_info.reduction()]
