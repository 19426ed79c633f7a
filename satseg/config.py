"""Where the configuration lies, and which classes a model file may name."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from satseg.errors import CheckpointError

_PACKAGE = Path(__file__).resolve().parent
# Beside the modules in a wheel, beside the package in a checkout.
CONFIG_DIR = next((d for d in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if d.is_dir()), _PACKAGE / "conf")

_SMP = "segmentation_models_pytorch.decoders"
ALLOWED_TARGETS = frozenset(
    {
        f"{_SMP}.unet.model.Unet",
        f"{_SMP}.unetplusplus.model.UnetPlusPlus",
        f"{_SMP}.fpn.model.FPN",
        f"{_SMP}.deeplabv3.model.DeepLabV3Plus",
        f"{_SMP}.upernet.model.UPerNet",
        f"{_SMP}.segformer.model.Segformer",
        f"{_SMP}.manet.model.MAnet",
        f"{_SMP}.pspnet.model.PSPNet",
    }
)


def resolve_target(name: str, trusted_modules: Collection[str] = (), *, source: str = "The model file") -> type[Any]:
    """Return the class of that name, if a file may name it.

    Args:
        name: Exact module and class name; a prefix would let a file walk through a module to `torch.load`.
        trusted_modules: Modules of the caller's own, whose classes may be named too; a package also by the names
            under which it offers those of its modules.
        source: What names it, in the message.

    Raises:
        CheckpointError: If the name is not on the list, or is not the class's own name.
    """
    module, _, attribute = name.rpartition(".")
    if name not in ALLOWED_TARGETS and module not in trusted_modules:
        raise CheckpointError(
            f"{source} names {name}, which is not allowed; if it is your own, pass its module as trusted_modules."
        )
    try:
        target = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{source} names {name}, which is not there: {error}.") from error
    if (
        not isinstance(target, type)
        or target.__qualname__ != attribute
        or not (target.__module__ == module or _is_offered(target.__module__, module, trusted_modules))
    ):
        raise CheckpointError(f"{source} names {name}, which is no class of that module.")
    return target


def _is_offered(module: str, package: str, trusted_modules: Collection[str]) -> bool:
    """Tell whether a package offers what one of its own modules defines, and the caller trusts the package."""
    return package in trusted_modules and module.startswith(f"{package}.")
