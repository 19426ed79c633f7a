"""Which decoder works on which shipped backbone; the table of docs/models.md and the test grid are made from this."""

from __future__ import annotations

from satseg.errors import ModelPairError

_DECODERS = "segmentation_models_pytorch.decoders"
MODELS = {
    "unet": f"{_DECODERS}.unet.model.Unet",
    "unetplusplus": f"{_DECODERS}.unetplusplus.model.UnetPlusPlus",
    "fpn": f"{_DECODERS}.fpn.model.FPN",
    "deeplabv3plus": f"{_DECODERS}.deeplabv3.model.DeepLabV3Plus",
    "upernet": f"{_DECODERS}.upernet.model.UPerNet",
    "segformer": f"{_DECODERS}.segformer.model.Segformer",
    "manet": f"{_DECODERS}.manet.model.MAnet",
    "pspnet": f"{_DECODERS}.pspnet.model.PSPNet",
}
BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "efficientnet_b0",
    "efficientnet_b3",
    "tf_efficientnet_lite0",
    "mobilenetv4_conv_small",
    "convnext_tiny",
    "convnext_base",
    "convnext_large",
    "pvt_v2_b2",
)
# What those are, and all decoders work on but those that are BROKEN.
KINDS = ("ResNet", "EfficientNet", "MobileNet", "ConvNeXt", "PVT")
BROKEN = {
    ("deeplabv3plus", "pvt_v2_b2"): "the backbone cannot be dilated to keep an output stride of 16",
}


def check_pair(target: str, encoder: str) -> None:
    """Refuse a pair that is known not to work.

    Raises:
        ModelPairError: Says why, and names models that work on the backbone.
    """
    model = next((name for name, full in MODELS.items() if full == target), target)
    backbone = encoder.removeprefix("tu-")
    reason = BROKEN.get((model, backbone))
    if reason:
        others = ", ".join(name for name in MODELS if (name, backbone) not in BROKEN)
        raise ModelPairError(f"model={model} does not work on backbone={backbone}: {reason}. On it work {others}.")


def table() -> str:
    """Return the pairs as a Markdown table."""
    lines = ["| backbone | " + " | ".join(MODELS) + " |", "| --- |" + " :-: |" * len(MODELS)]
    for backbone in BACKBONES:
        marks = ["–" if (model, backbone) in BROKEN else "✓" for model in MODELS]
        lines.append(f"| {backbone} | " + " | ".join(marks) + " |")
    return "\n".join(lines)
