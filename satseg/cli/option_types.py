"""Checks that options have the types of their defaults."""

from __future__ import annotations

from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from satseg.errors import ConfigError
from satseg.runs import AUTO, AUTO_OPTIONS


def check_types(cfg: DictConfig, config_name: str) -> None:
    """Check that options have the types of their defaults, as YAML itself would accept `lr=abc`.

    Raises:
        ConfigError: If one has not; names the option, its value and the expected type.
    """
    overrides = list(HydraConfig.get().overrides.task)
    groups = [o for o in overrides if _key(o) in HydraConfig.get().runtime.choices]
    plain = [_key(o) for o in overrides if o not in groups and not o.startswith(("+", "~"))]
    if not plain:
        return
    loader = GlobalHydra.instance().config_loader()
    defaults = loader.load_configuration(config_name, groups, hydra.types.RunMode.RUN)
    for key in plain:
        value = OmegaConf.select(cfg, key)
        if not (value == AUTO and key in AUTO_OPTIONS):  # also if the experiment sets a number
            _check_type(key, value, OmegaConf.select(defaults, key))


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _check_type(key: str, value: Any, default: Any) -> None:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{key}={value}: expected true or false.")
    elif isinstance(default, int | float) and not _is_number(value):
        raise ConfigError(f"{key}={value}: expected a number, such as {default}.")
    elif OmegaConf.is_list(default) and isinstance(value, str):
        raise ConfigError(f"{key}={value}: expected a list; write {key}=[{value}].")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
