"""Background images: satseg's synthetic scenes, and real ones from Dubai."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
from cues import SIDE, Random

from satseg.data.synthetic.scene import GAIN, make_scene

SCENES = {"train": 6, "val": 1, "test": 3}  # of 512 x 512 pixels
TILES = {"train": (1, 2, 3, 4, 5, 6), "val": (7,), "test": (8,)}
PARTS = (1, 5, 9)  # of each tile
RGB = [2, 1, 0]  # of the embedded scenes' bands


def shared() -> Path:
    """Return the folder of real data and weights, which may not exist."""
    beside = Path(__file__).parents[2].parent / "shared"
    return Path(os.environ.get("SATSEG_SHARED", beside))


def has_real() -> bool:
    """Return whether real images are available."""
    return (shared() / "data" / "dubai").is_dir()


def backgrounds(kind: str, split: str) -> Callable[[Random], np.ndarray]:
    """Return a function that cuts a crop (3, SIDE, SIDE), 0 to 255, from the places of a split.

    Args:
        kind: `embedded`, `real` or `both`; without real data, `both` is embedded.
        split: `train`, `val` or `test`; they have no scene in common.
    """
    scenes = _embedded(split) if kind != "real" else []
    if kind == "real" or (kind == "both" and has_real()):
        scenes = scenes + _real(split)

    def crop(random: Random) -> np.ndarray:
        while True:
            scene = scenes[int(random.integers(len(scenes)))]
            row, col = (int(random.integers(size - SIDE + 1)) for size in scene.shape[1:])
            cut = scene[:, row : row + SIDE, col : col + SIDE]
            if np.isfinite(cut).all():
                return cut

    return crop


@cache
def _embedded(split: str) -> list[np.ndarray]:
    """Return scenes (3, 512, 512), NaN where they have no data."""
    scenes = [make_scene((24, list(SCENES).index(split), number), 512) for number in range(SCENES[split])]
    return [np.where(scene.valid, scene.reflectance[RGB] * GAIN, np.nan).astype(np.float32) for scene in scenes]


@cache
def _real(split: str) -> list[np.ndarray]:
    names = [f"Tile {tile}/images/image_part_{part:03d}.jpg" for tile in TILES[split] for part in PARTS]
    scenes = []
    for name in names:
        with rasterio.open(shared() / "data" / "dubai" / name) as source:
            scenes.append(source.read().astype(np.float32))
    return scenes
