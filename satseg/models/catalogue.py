"""Catalogue of decoders and backbones, the pairs that work, and the classes that a model file may name.

The table in docs/models.md and the test grid are generated from it.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Collection
from typing import Any

from satseg.errors import CheckpointError, ModelPairError

LIBRARY = "segmentation_models_pytorch."
_DECODERS = f"{LIBRARY}decoders"
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
ALLOWED_TARGETS = frozenset(MODELS.values())  # classes that a model file may name
USES_FEW_STAGES = frozenset({MODELS["pspnet"]})  # decoders that leave out the last stages of most backbones
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
# Families of the backbones above, which work with all decoders except the INCOMPATIBLE pairs.
FAMILIES = ("ResNet", "EfficientNet", "MobileNet", "ConvNeXt", "PVT")
INCOMPATIBLE = {
    ("deeplabv3plus", "pvt_v2_b2"): "the backbone cannot be dilated to keep an output stride of 16",
}


def check_pair(target: str, encoder: str) -> None:
    """Check that a decoder and a backbone are not known to be incompatible.

    Raises:
        ModelPairError: If they are; gives the reason, and lists models that work on the backbone.
    """
    model = next((name for name, full in MODELS.items() if full == target), target)
    backbone = encoder.removeprefix("tu-")
    reason = INCOMPATIBLE.get((model, backbone))
    if reason:
        others = ", ".join(name for name in MODELS if (name, backbone) not in INCOMPATIBLE)
        raise ModelPairError(
            f"model={model} does not work on backbone={backbone}: {reason}. Models that work on it: {others}."
        )


def may_leave_layers_unused(target: str) -> bool:
    """Return whether a decoder may skip a part of the backbone, for whose gradients DDP would wait.

    This is unknown for classes that are not in the catalogue, so they may.
    """
    return target in USES_FEW_STAGES or target not in ALLOWED_TARGETS


def table() -> str:
    """Return the pairs as a Markdown table."""
    lines = ["| backbone | " + " | ".join(MODELS) + " |", "| --- |" + " :-: |" * len(MODELS)]
    for backbone in BACKBONES:
        marks = ["–" if (model, backbone) in INCOMPATIBLE else "✓" for model in MODELS]
        lines.append(f"| {backbone} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def resolve_target(name: str, trusted_modules: Collection[str] = (), *, source: str = "The model file") -> type[Any]:
    """Return a class by name, if a file may name it.

    Args:
        name: Exact module and class name; prefixes would let a file reach `torch.load` through a module.
        trusted_modules: The user's own modules and packages, whose classes may be named as well; a package covers
            its submodules.
        source: Origin of the name, for the message.

    Raises:
        CheckpointError: If the name is not on the list, or is not the class's own name.
    """
    module, _, attribute = name.rpartition(".")
    if name not in ALLOWED_TARGETS and not is_trusted(module, trusted_modules):
        raise CheckpointError(
            f"{source} names {name}, which is not allowed; if it is your own, pass its module or package as "
            "trusted_modules, for example 'trusted_modules=[my_package]'."
        )
    try:
        target = import_class(name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"{source} names {name}, which cannot be imported: {error}. Run the command in the folder that holds its "
            "package, or install the package."
        ) from error
    if (
        not isinstance(target, type)
        or target.__qualname__ != attribute
        or not (target.__module__ == module or is_trusted(target.__module__, trusted_modules))
    ):
        raise CheckpointError(f"{source} names {name}, which is not a class of that module.")
    return target


def import_class(name: str) -> Any:
    """Import an object by its full name.

    Raises:
        ImportError: If its module cannot be imported.
        AttributeError: If the module does not have it; suggests similar names.
    """
    module, _, attribute = name.rpartition(".")
    loaded = importlib.import_module(module)
    try:
        return getattr(loaded, attribute)
    except AttributeError:
        near = difflib.get_close_matches(attribute, dir(loaded), n=3)
        hint = f"; did you mean {' or '.join(near)}" if near else ""
        raise AttributeError(f"{module} has no {attribute}{hint}") from None


def is_trusted(module: str, trusted_modules: Collection[str]) -> bool:
    """Return whether a module is one of the trusted ones, or lies in a trusted package."""
    return any(module == own or module.startswith(f"{own}.") for own in trusted_modules)
