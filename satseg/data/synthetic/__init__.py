"""Procedural land-cover scenes: the embedded data, made on the machine where it is used."""

from satseg.data.synthetic.datamodule import SyntheticDataModule

__all__ = ["SyntheticDataModule"]
