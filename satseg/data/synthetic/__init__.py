"""Built-in dataset of procedurally generated land-cover scenes."""

from satseg.data.synthetic.datamodule import SyntheticDataModule

__all__ = ["SyntheticDataModule"]
