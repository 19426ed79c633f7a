"""Checking the options of `satseg.predict`, before a model is loaded or a scene opened."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli.checks import check_values
from satseg.inference.averaging import views
from satseg.inference.plans import check_windows


def check_options(cfg: DictConfig) -> None:
    """Refuse what no scene could be segmented with.

    Raises:
        ConfigError: Names the option, its value, and what was expected.
    """
    check_values(cfg)
    views(cfg.tta)
    check_windows(1536 if cfg.window_size == "auto" else cfg.window_size, cfg.overlap)
