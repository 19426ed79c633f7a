"""Checks of the options of `satseg.predict`, before models are loaded and scenes opened."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli.checks import check_values
from satseg.inference.averaging import views
from satseg.inference.windows import check_windows


def check_options(cfg: DictConfig) -> None:
    """Check the options that do not depend on a scene.

    Raises:
        ConfigError: If an option is invalid; names its value and the expected ones.
    """
    check_values(cfg)
    views(cfg.tta)
    check_windows(1536 if cfg.window_size == "auto" else cfg.window_size, cfg.overlap)
