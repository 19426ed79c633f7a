"""Names of backbones, and why one does not work: for what people type."""

from __future__ import annotations

import difflib

import segmentation_models_pytorch as smp
import timm
import torch

from satseg.models.catalogue import FAMILIES

PREFIX = "tu-"  # by which SMP finds timm's backbones
MAX_CHARACTERS = 200  # characters of an error of others


def with_prefix(encoder: str) -> str:
    """Return the name by which SMP builds timm's backbone: `tu-convnext_tiny` for `convnext_tiny`; others unchanged."""
    return f"{PREFIX}{encoder}" if not encoder.startswith(PREFIX) and _in_timm(encoder) else encoder


def is_known(encoder: str) -> bool:
    """Tell whether timm or SMP has a backbone of that name."""
    return encoder in smp.encoders.encoders or _in_timm(encoder)


def _in_timm(encoder: str) -> bool:
    return bool(timm.is_model(encoder.removeprefix(PREFIX).partition(".")[0]))


def unknown_backbone_message(encoder: str) -> str:
    """Return what to tell of a name that nobody knows: names that are near."""
    names = list(dict.fromkeys([*timm.list_models(), *smp.encoders.encoders]))
    near = difflib.get_close_matches(encoder.removeprefix(PREFIX), names, n=4)
    hint = f"did you mean {', '.join(near)}?" if near else "choose a name that timm.list_models() has."
    return f"backbone.encoder_name={encoder}: there is no such backbone; {hint}"


def unsuitable_backbone_message(decoder: str, encoder: str, error: Exception) -> str:
    """Return what to tell of a backbone on which a decoder does not work: why, and kinds on which it does.

    Args:
        decoder: Its class's name.
        encoder: The backbone's name, known.
        error: That building it, or trying it, raised.
    """
    name = encoder.removeprefix(PREFIX)
    return (
        f"{decoder} does not work on the backbone {name}: {_reason(name, error)}. Choose one of a kind that works: "
        f"{', '.join(FAMILIES)}, and most others whose feature maps halve step by step to 1/32; "
        "docs/models.md lists tested pairs."
    )


def _reason(name: str, error: Exception) -> str:
    if _in_timm(name):
        steps = _reductions(name)
        if len(set(steps)) == 1:
            return f"its maps are all of one size, 1/{steps[0]} of the image, and the decoder joins several sizes"
        config = timm.get_pretrained_cfg(name)
        if config is not None and config.fixed_input_size:
            return f"it takes images of {config.input_size[1]} x {config.input_size[2]} pixels only"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:MAX_CHARACTERS].rstrip('.')}"


def _reductions(name: str) -> list[int]:
    """Return by how much a timm backbone's maps are smaller than the image; none where it has no maps."""
    try:
        with torch.device("meta"):
            backbone = timm.create_model(name, features_only=True)
    except Exception:  # each kind has its own
        return []
    return [int(step) for step in backbone.feature_info.reduction()]
