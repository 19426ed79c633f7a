"""The plain options of loading, checked."""

from __future__ import annotations

import os
from typing import Any

from satseg.errors import ConfigError


def check_options(
    patch_size: Any, batch_size: Any, patches_per_epoch: Any, num_workers: Any, bands: Any, scale: Any
) -> None:
    """Refuse what YAML lets through.

    Raises:
        ConfigError: Names the option and what was expected.
    """

    def whole(value: Any, least: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    for name, value, least in (
        ("patch_size", patch_size, 1),
        ("batch_size", batch_size, 1),
        ("patches_per_epoch", patches_per_epoch, 1),
        ("num_workers", num_workers, 0),
    ):
        if not (whole(value, least) or (value == "auto" and name in ("patches_per_epoch", "num_workers"))):
            raise ConfigError(f"dataset.{name}={value}: expected a whole number from {least} up.")
    if bands is not None and not (isinstance(bands, list | tuple) and bands and all(whole(b, 1) for b in bands)):
        raise ConfigError(f"dataset.bands={bands}: expected a list of band numbers from 1 up, such as [4, 3, 2].")
    if scale != "auto" and not (isinstance(scale, int | float) and scale > 0):
        raise ConfigError(f"dataset.scale={scale}: expected auto, or a number above 0.")


def default_workers() -> int:
    """Return how many loader processes suit this machine: none where cores are few."""
    cores = os.cpu_count() or 1
    return 0 if cores <= 2 else min(8, cores - 1)
