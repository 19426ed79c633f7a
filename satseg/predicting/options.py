"""Checking the options of `satseg.predict`, before a model is loaded or a scene opened."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from satseg.data.raster import parse_window
from satseg.errors import ConfigError
from satseg.inference.combining import views
from satseg.inference.plans import check_windows
from satseg.mapping.layers import DRIVERS

VECTOR_SUFFIXES = tuple(DRIVERS)
CHOICES = {
    "executor": ("local", "ray"),
    "overviews": ("nearest", "mode"),
    "preflight": ("stop", "warn"),
    "probabilities": ("none", "top", "all"),
    "probability_dtype": ("uint8", "float32"),
}


def check_options(cfg: DictConfig) -> None:
    """Refuse what no scene could be segmented with.

    Raises:
        ConfigError: Names the option, its value, and what was expected.
    """
    for key, choices in CHOICES.items():
        if cfg[key] not in choices:
            raise ConfigError(f"{key}={cfg[key]}: choose {' or '.join(choices)}.")
    _number(cfg, "max_ram_gb", "a number above 0", lambda n: n > 0)
    _number(cfg, "scale", "a number other than 0", lambda n: n != 0)
    _number(cfg, "offset", "a number")
    _number(cfg, "nodata", "a number", none=True, finite=False)
    _number(cfg, "gsd_m", "metres above 0", lambda n: n > 0, none=True)
    for key in ("min_area_m2", "simplify_m"):
        _number(cfg, key, "a number from 0 on", lambda n: n >= 0)
    for key in ("batch_size", "workers"):
        _number(cfg, key, "a whole number from 1 on", lambda n: isinstance(n, int) and n >= 1, none=True)
    bands = cfg.bands
    if bands is not None and not (_is_list(bands) and bands and all(type(n) is int and n >= 1 for n in bands)):
        raise ConfigError(f"bands={bands}: expected one-based numbers, such as [3,2,1].")
    if _is_list(cfg.checkpoint) and not cfg.checkpoint:
        raise ConfigError("checkpoint=[]: name a model, or several to average.")
    parse_window(cfg.window)
    views(cfg.tta)
    check_windows(1536 if cfg.window_size == "auto" else cfg.window_size, cfg.overlap)
    check_vectors(cfg.vectors)


def check_vectors(vectors: Any) -> None:
    """Refuse a kind of polygons that cannot be written.

    Raises:
        ConfigError: Lists those that can.
    """
    if vectors is not None and not beside(vectors) and Path(str(vectors)).suffix.lower() not in VECTOR_SUFFIXES:
        known = ", ".join(suffix.removeprefix(".") for suffix in VECTOR_SUFFIXES)
        raise ConfigError(f"vectors={vectors}: choose {known}, or a path that ends in one of them.")


def beside(vectors: Any) -> bool:
    """Tell whether polygons lie beside each map, instead of at a path."""
    return f".{vectors}" in VECTOR_SUFFIXES


def _number(
    cfg: DictConfig,
    key: str,
    expected: str,
    fits: Callable[[float], bool] = lambda n: True,
    *,
    none: bool = False,
    finite: bool = True,
) -> None:
    value = cfg[key]
    if value is None and none:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (finite and not math.isfinite(value)) or not fits(value):
        raise ConfigError(f"{key}={value}: expected {expected}.")


def _is_list(value: Any) -> bool:
    return isinstance(value, ListConfig) or (isinstance(value, Sequence) and not isinstance(value, str))
