"""Which device a command computes on."""

from __future__ import annotations

import torch

from satseg.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the first GPU where there is one.

    Raises:
        ConfigError: If the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device={name}: {error}; choose auto, cpu, or a GPU that is there such as cuda:0."
        ) from error
