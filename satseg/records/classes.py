"""Checks of recorded options against the signatures of satseg's classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import OmegaConf

from satseg.errors import ConfigError, printable
from satseg.records.slots import HYDRA_KEYS, schema
from satseg.runs import AUTO, AUTO_OPTIONS
from satseg.signatures import first_mismatch


def check_classes(node: Any, name: str, path: Path) -> None:
    """Check the options of classes that satseg's configuration names; other classes check their own.

    Args:
        node: Section of a record.
        name: Name of the section.
        path: Path of the record.

    Raises:
        ConfigError: If an option is unknown or its value has a wrong type.
    """
    value: Any = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
    if not isinstance(value, dict):
        return
    target = value.get("_target_")
    if target is not None and any(target in slot.targets for slot in schema().slots.values()):
        # A run that was stopped early may not have resolved its `auto` options yet.
        options = {k: v for k, v in value.items() if not (v == AUTO and f"{name}.{k}" in AUTO_OPTIONS)}
        found = first_mismatch(get_class(target), {k: v for k, v in options.items() if k not in HYDRA_KEYS})
        if found is not None:
            text = f"{path}: {name}.{found[0]} {found[1]}"
            raise ConfigError(printable(text))
    for key, part in value.items():
        check_classes(part, f"{name}.{key}", path)
