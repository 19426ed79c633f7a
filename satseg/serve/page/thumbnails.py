"""Finished maps at the size of a screen, and pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from satseg.data.rasters.opening import open_raster
from satseg.serve.segmenting import Segmented


@dataclass(frozen=True)
class Thumbnails:
    """A finished map at the size of a screen.

    Attributes:
        image: Raw numbers (C, h, w) of all bands of the file.
        valid: Boolean (h, w).
        classes: Indices (h, w), uint8; the ignore index where there is no image.
        confidence: Probability (h, w) of the class that won, 0 to 1; NaN where there is no image.
    """

    image: np.ndarray
    valid: np.ndarray
    classes: np.ndarray
    confidence: np.ndarray


def thumbnails(found: Segmented, side: int) -> Thumbnails:
    """Read image and map so that no side is longer than so many pixels."""
    scene = replace(found.scene, bands=found.upload.info.bands)
    with scene.open() as reader:
        image, valid = reader.thumbnail(side)
    with open_raster(found.classes) as source:
        classes = source.read(1, out_shape=valid.shape)
    with open_raster(found.probabilities) as source:
        top = source.read(out_shape=(source.count, *valid.shape)).max(0)
    nothing = classes == 255
    confidence = np.where(nothing, np.nan, top / np.float32(254))
    return Thumbnails(image, valid & ~nothing, classes, confidence)


def probabilities_at(found: Segmented, col: int, row: int) -> list[float] | None:
    """Return the classes' probabilities at a pixel; None where there is no image."""
    with open_raster(found.probabilities) as source:
        stored = source.read(window=((row, row + 1), (col, col + 1)))[:, 0, 0]
    return None if (stored == 255).all() else (stored / 254).tolist()
