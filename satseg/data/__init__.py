"""Reading, splitting, augmenting and loading labelled images."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satseg.data.datamodule import SegmentationDataModule
    from satseg.data.folder import FolderDataModule

_MODULES = {
    "FolderDataModule": "satseg.data.folder",
    "SegmentationDataModule": "satseg.data.datamodule",
}
__all__ = ["FolderDataModule", "SegmentationDataModule"]


def __getattr__(name: str) -> Any:
    """Import a name's module on first use: the light modules of this room are needed without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
