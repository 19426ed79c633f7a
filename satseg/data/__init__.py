"""Reading, splitting, augmenting and loading labelled images."""

from satseg.data.datamodule import SegmentationDataModule
from satseg.data.folder import FolderDataModule

__all__ = ["FolderDataModule", "SegmentationDataModule"]
