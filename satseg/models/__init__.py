"""Networks: a backbone, a decoder, and the normalisation that travels with them."""

from satseg.models.build import build_model
from satseg.models.network import STRIDE, SegmentationNetwork, channels_last
from satseg.models.options import check_options
from satseg.models.transfer import freeze_backbone, init_from

__all__ = [
    "STRIDE",
    "SegmentationNetwork",
    "build_model",
    "channels_last",
    "check_options",
    "freeze_backbone",
    "init_from",
]
