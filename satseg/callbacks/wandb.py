"""Weights & Biases that never asks and never waits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from satseg.errors import ConfigError

if TYPE_CHECKING:
    from pytorch_lightning.loggers import WandbLogger


def wandb_logger(save_dir: str, **options: Any) -> WandbLogger:
    """Make the logger; offline by itself where there is no API key.

    Args:
        save_dir: Folder for the run's files.
        options: Passed on to `WandbLogger`.

    Raises:
        ConfigError: If wandb is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("logger=wandb needs the package wandb: pip install 'satseg[wandb]'.") from error
    from pytorch_lightning.loggers import WandbLogger

    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
    return WandbLogger(save_dir=save_dir, mode=mode, **options)
