"""Reading, splitting, augmenting and loading labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satseg.data.datamodule import SegmentationDataModule
    from satseg.data.folder import FolderDataModule

__all__ = ["FolderDataModule", "SegmentationDataModule"]


def __getattr__(name: str) -> Any:
    """Import the modules on first use: who reads a raster alone does not wait for torch."""
    if name == "SegmentationDataModule":
        from satseg.data.datamodule import SegmentationDataModule

        return SegmentationDataModule
    if name == "FolderDataModule":
        from satseg.data.folder import FolderDataModule

        return FolderDataModule
    raise AttributeError(f"module 'satseg.data' has no attribute {name!r}")
