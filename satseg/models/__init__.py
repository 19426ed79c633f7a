"""Networks: a backbone, a decoder, and the normalisation that travels with them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satseg.models.build import build_model
    from satseg.models.decoder_options import check_options
    from satseg.models.network import STRIDE, SegmentationNetwork, channels_last
    from satseg.models.transfer import freeze_backbone, init_from

_MODULES = {
    "STRIDE": "satseg.models.network",
    "SegmentationNetwork": "satseg.models.network",
    "build_model": "satseg.models.build",
    "channels_last": "satseg.models.network",
    "check_options": "satseg.models.decoder_options",
    "freeze_backbone": "satseg.models.transfer",
    "init_from": "satseg.models.transfer",
}
__all__ = [
    "STRIDE",
    "SegmentationNetwork",
    "build_model",
    "channels_last",
    "check_options",
    "freeze_backbone",
    "init_from",
]


def __getattr__(name: str) -> Any:
    """Import a name's module on first use, as the light modules of this package are needed without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
