"""Reading, splitting, augmenting and loading labelled images."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satseg.data.datamodule import SegmentationDataModule
    from satseg.data.folder import FolderDataModule
    from satseg.data.labels.discovery import ClassScheme, scheme_from_config
    from satseg.data.samples import Sample

_MODULES = {
    "ClassScheme": "satseg.data.labels.scheme",
    "FolderDataModule": "satseg.data.folder",
    "Sample": "satseg.data.samples",
    "SegmentationDataModule": "satseg.data.datamodule",
    "scheme_from_config": "satseg.data.labels.discovery",
}
__all__ = ["ClassScheme", "FolderDataModule", "Sample", "SegmentationDataModule", "scheme_from_config"]


def __getattr__(name: str) -> Any:
    """Import a name's module on first use, as modules that only read files must not import torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
