"""What is written of a scene: classes, and where they are asked for probabilities and entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from satseg.errors import ConfigError
from satseg.inference.coding import Coding, class_numbers
from satseg.spec import DatasetSpec

BYTE_STEPS = 254  # uint8 holds 0 to 1 in so many steps; 255 is nodata
PROBABILITIES = ("none", "top", "all")


@dataclass(frozen=True)
class Product:
    """One raster that is made of the logits.

    Attributes:
        name: Ending of the file's name; empty for the map itself.
        band_names: One a band.
        dtype: Numpy dtype name.
        nodata: Value of invalid pixels.
        compute: From logits (K, h, w) to (bands, h, w), before invalid pixels are set.
        scale: Stored numbers times this are the real ones.
        coding: Of the map itself: which number stands for which class.
    """

    name: str
    band_names: tuple[str, ...]
    dtype: str
    nodata: float
    compute: Callable[[Tensor], Tensor]
    scale: float = 1.0
    coding: Coding | None = None

    def array(self, logits: Tensor, valid: Tensor) -> np.ndarray:
        """Return what is written of a block.

        Args:
            logits: (K, h, w).
            valid: Boolean (h, w).
        """
        values, invalid = self.compute(logits).cpu(), ~valid.cpu()
        table = None if self.coding is None else self.coding.table
        if table is not None:
            coded: np.ndarray = table[values.numpy()]
            coded[invalid.numpy()[None]] = self.nodata
            return coded
        array: np.ndarray = values.to(getattr(torch, self.dtype)).masked_fill(invalid, self.nodata).numpy()
        return array


def products_of(
    spec: DatasetSpec, *, probabilities: str, dtype: str, entropy: bool, coding: Coding | None = None
) -> tuple[Product, ...]:
    """Return the rasters that are asked for, the map of classes first.

    Args:
        spec: The model's.
        probabilities: `none`, `top` (of the class that wins) or `all` (a band a class).
        dtype: Of probabilities and entropy, `uint8` or `float32`.
        entropy: Whether the entropy of the probabilities, as a share of its maximum, is written.
        coding: Which number of the map stands for which class; its own by default.

    Raises:
        ConfigError: If a choice is unknown.
    """
    if probabilities not in PROBABILITIES:
        raise ConfigError(f"probabilities={probabilities}: choose {', '.join(PROBABILITIES)}.")
    if dtype not in ("uint8", "float32"):
        raise ConfigError(f"probability_dtype={dtype}: choose uint8 or float32.")
    coding = coding or class_numbers(spec)
    products = [Product("", ("class",), coding.dtype, coding.nodata, _classes, coding=coding)]
    if probabilities == "top":
        products.append(_share("probability", ("probability",), dtype, lambda x: x.softmax(0).amax(0, keepdim=True)))
    if probabilities == "all":
        products.append(_share("probabilities", spec.class_names, dtype, lambda x: x.softmax(0)))
    if entropy:
        products.append(_share("entropy", ("entropy",), dtype, _entropy))
    return tuple(products)


def product_paths(output: Path, products: Sequence[Product]) -> list[Path]:
    """Return the file of each product, the map's first."""
    return [output.with_stem(f"{output.stem}_{p.name}") if p.name else output for p in products]


def _classes(logits: Tensor) -> Tensor:
    return logits.max(0, keepdim=True).indices  # argmax takes six times as long over the first axis


def _share(name: str, bands: tuple[str, ...], dtype: str, compute: Callable[[Tensor], Tensor]) -> Product:
    if dtype == "float32":
        return Product(name, bands, dtype, math.nan, compute)
    return Product(
        name, bands, dtype, BYTE_STEPS + 1, lambda x: (compute(x) * BYTE_STEPS).round(), scale=1 / BYTE_STEPS
    )


def _entropy(logits: Tensor) -> Tensor:
    """Return Shannon's entropy of each pixel's classes, 0 where one is certain, 1 where all are alike."""
    shares = logits.log_softmax(0)
    return -(shares.exp() * shares).sum(0, keepdim=True) / math.log(len(logits))
