"""Output rasters of a scene: classes, and on request probabilities and entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from satseg.errors import ConfigError
from satseg.inference.map_values import MapValues, class_indices
from satseg.spec import DatasetSpec

BYTE_STEPS = 254  # uint8 values 0 to 254 encode 0 to 1; 255 is nodata
PROBABILITIES = ("none", "top", "all")


@dataclass(frozen=True)
class Product:
    """One output raster computed from the logits.

    Attributes:
        name: Suffix of the file's stem; empty for the map itself.
        band_names: One per band.
        dtype: Numpy dtype name.
        nodata: Value of invalid pixels.
        compute: Function from logits (K, h, w) to (bands, h, w), before invalid pixels are set.
        scale: Factor from stored to real values.
        map_values: Pixel values of the classes, for the map itself.
    """

    name: str
    band_names: tuple[str, ...]
    dtype: str
    nodata: float
    compute: Callable[[Tensor], Tensor]
    scale: float = 1.0
    map_values: MapValues | None = None

    def array(self, logits: Tensor, valid: Tensor) -> np.ndarray:
        """Return the values to write for a block.

        Args:
            logits: (K, h, w).
            valid: Boolean (h, w).
        """
        values, invalid = self.compute(logits).cpu(), ~valid.cpu()
        table = None if self.map_values is None else self.map_values.table
        if table is not None:
            coded: np.ndarray = table[values.numpy()]
            coded[invalid.numpy()[None]] = self.nodata
            return coded
        array: np.ndarray = values.to(getattr(torch, self.dtype)).masked_fill(invalid, self.nodata).numpy()
        return array


def products_of(
    spec: DatasetSpec, *, probabilities: str, dtype: str, entropy: bool, map_values: MapValues | None = None
) -> tuple[Product, ...]:
    """Return the requested output rasters, the class map first.

    Args:
        spec: The model's spec.
        probabilities: `none`, `top` (of the predicted class) or `all` (one band per class).
        dtype: Dtype of probabilities and entropy, `uint8` or `float32`.
        entropy: Whether to write the entropy of the probabilities, as a fraction of its maximum.
        map_values: Pixel values of the classes in the map; class indices by default.

    Raises:
        ConfigError: If a choice is unknown.
    """
    if probabilities not in PROBABILITIES:
        raise ConfigError(f"probabilities={probabilities}: choose {', '.join(PROBABILITIES)}.")
    if dtype not in ("uint8", "float32"):
        raise ConfigError(f"probability_dtype={dtype}: choose uint8 or float32.")
    map_values = map_values or class_indices(spec)
    products = [Product("", ("class",), map_values.dtype, map_values.nodata, _classes, map_values=map_values)]
    if probabilities == "top":
        products.append(_fraction("probability", ("probability",), dtype, lambda x: x.softmax(0).amax(0, keepdim=True)))
    if probabilities == "all":
        products.append(_fraction("probabilities", spec.class_names, dtype, lambda x: x.softmax(0)))
    if entropy:
        products.append(_fraction("entropy", ("entropy",), dtype, _entropy))
    return tuple(products)


def product_paths(output: Path, products: Sequence[Product]) -> list[Path]:
    """Return the file of each product, the map first."""
    return [output.with_stem(f"{output.stem}_{p.name}") if p.name else output for p in products]


def _classes(logits: Tensor) -> Tensor:
    return logits.max(0, keepdim=True).indices  # argmax over the first axis is six times slower


def _fraction(name: str, bands: tuple[str, ...], dtype: str, compute: Callable[[Tensor], Tensor]) -> Product:
    if dtype == "float32":
        return Product(name, bands, dtype, math.nan, compute)
    return Product(
        name, bands, dtype, BYTE_STEPS + 1, lambda x: (compute(x) * BYTE_STEPS).round(), scale=1 / BYTE_STEPS
    )


def _entropy(logits: Tensor) -> Tensor:
    """Return the normalised Shannon entropy of each pixel: 0 if one class is certain, 1 if all are equally likely."""
    log_probabilities = logits.log_softmax(0)
    return -(log_probabilities.exp() * log_probabilities).sum(0, keepdim=True) / math.log(len(logits))
