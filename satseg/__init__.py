"""Config-driven experiments for semantic segmentation of satellite imagery."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if os.name != "posix":  # file locks and signals need it
    raise ImportError("satseg runs on Linux and macOS; on Windows, run it in WSL.")

if TYPE_CHECKING:
    from satseg.models.checkpoint import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    """Import the public API on first use, so that `--help` works without importing torch."""
    if name == "load_model":
        from satseg.models.checkpoint import load_model

        return load_model
    raise AttributeError(f"module 'satseg' has no attribute {name!r}")
