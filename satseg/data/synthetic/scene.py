"""Synthetic scenes: layout, reflectance, and the flaws of real data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from satseg.data.rasters.writing import write_raster
from satseg.data.synthetic.appearance import BAND_NAMES, render
from satseg.data.synthetic.layout import PALETTE, Random, make_layout, smooth_noise
from satseg.spec import IGNORE_INDEX

Bands = Literal["rgb", "multispectral"]
GSD_M = 1.0
CRS = "EPSG:32631"
ORIGIN = (440_000.0, 5_000_000.0)
GAIN = 255 / 0.32  # 8-bit counts by reflectance
REFLECTANCE_SCALE = 10_000


@dataclass(frozen=True)
class Scene:
    """Reflectance (6, H, W), class indices (H, W) with IGNORE_INDEX, and valid pixels (H, W)."""

    reflectance: np.ndarray
    mask: np.ndarray
    valid: np.ndarray


def make_scene(seed: tuple[int, ...], size: int) -> Scene:
    """Generate a scene; the same seed gives the same scene."""
    random = np.random.default_rng(list(seed))
    layout = make_layout(random, size)
    reflectance = render(layout, random)
    mask = layout.classes.astype(np.uint8)
    mask[smooth_noise(random, size, 12) > 2.4] = IGNORE_INDEX  # unlabelled spots
    valid = _footprint(random, size)
    mask[~valid] = IGNORE_INDEX
    return Scene(reflectance, mask, valid)


def _footprint(random: Random, size: int) -> np.ndarray:
    """Return valid pixels: two corners are cut by the tilted edges of a sensor's swath."""
    rows, cols = np.mgrid[:size, :size]
    slope = random.uniform(0.05, 0.2)
    depth = random.uniform(0.0, 0.06, 2) * size
    valid: np.ndarray = (cols + slope * rows > depth[0]) & ((size - cols) + slope * (size - rows) > depth[1])
    return valid


def write_scene(scene: Scene, image: Path, mask: Path, bands: Bands, place: tuple[int, int]) -> None:
    """Write image and mask as GeoTIFFs on one grid.

    Args:
        scene: The scene.
        image: File of the image; nodata is 0.
        mask: File of the mask, with a colour table.
        bands: uint8 red, green and blue, or uint16 reflectance times 10,000 in six bands.
        place: Column and row of the scene among all scenes, so that none overlap.
    """
    size = scene.mask.shape[0]
    west, north = ORIGIN[0] + place[0] * 2 * size * GSD_M, ORIGIN[1] - place[1] * 2 * size * GSD_M
    grid: dict[str, Any] = {"crs": CRS, "transform": (GSD_M, 0.0, west, 0.0, -GSD_M, north)}
    if bands == "rgb":
        names = ["red", "green", "blue"]
        stored = np.clip(np.rint(scene.reflectance[[2, 1, 0]] * GAIN), 1, 255).astype(np.uint8)
    else:
        names = list(BAND_NAMES)
        stored = np.clip(np.rint(scene.reflectance * REFLECTANCE_SCALE), 1, 65535).astype(np.uint16)
    write_raster(image, stored * scene.valid.astype(stored.dtype), nodata=0, band_names=names, **grid)
    write_raster(mask, scene.mask[None], palette=dict(enumerate(PALETTE)) | {IGNORE_INDEX: (0, 0, 0)}, **grid)
