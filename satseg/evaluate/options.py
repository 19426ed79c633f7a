"""Scoring options of `satseg.evaluate`."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from satseg.errors import ConfigError
from satseg.evaluate.scoring import Scoring
from satseg.inference.averaging import views
from satseg.runs.finding import named_models


def scoring(cfg: DictConfig) -> Scoring:
    """Return the scoring options.

    Raises:
        ConfigError: If an option is out of range, or options conflict.
    """
    views(cfg.tta)
    if not isinstance(cfg.ignore_edges, int) or not 0 <= cfg.ignore_edges <= 100:
        raise ConfigError(f"ignore_edges={cfg.ignore_edges}: expected a number of pixels from 0 to 100.")
    if cfg.ignore_edges and cfg.map_areas:
        raise ConfigError("map_areas= needs all pixels, as most errors are along borders: leave ignore_edges at 0.")
    several = len(named_models(cfg.checkpoint, Path(cfg.runs_dir), verbose=False))
    if cfg.calibrate and several > 1:
        raise ConfigError(
            "calibrate=true fits one model: calibrate each separately, and average the model_calibrated.safetensors."
        )
    return Scoring(cfg.tta, cfg.ignore_edges, several)
