"""Synthetic georeferenced images with texture, and matching masks."""

from pathlib import Path

import numpy as np
import rasterio
from scipy.ndimage import gaussian_filter

from satseg.data.rasters.opening import quiet

SIZE = 96
UTM = "EPSG:32633"
PIXEL = 10.0
CLASSES = {"land": 0, "water": 1, "forest": 2}
PLACES = {"train": 6, "val": 2, "test": 2}


def write(path: Path, array: np.ndarray, *, crs: str | None = UTM, east: float = 0.0, pixel: float = PIXEL, **profile):
    """Write an array (bands, height, width) as a raster, `east` pixels of 10 m from the corner of the dataset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(pixel, 0, 500_000 + east * PIXEL, 0, -pixel, 5_000_000)
    placed = {"crs": crs, "transform": transform} if crs else {}
    count, height, width = array.shape
    options = {"driver": "GTiff", "photometric": "minisblack", "dtype": array.dtype} | placed | profile
    with quiet(), rasterio.open(path, "w", count=count, height=height, width=width, **options) as file:
        file.write(array)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def make_mask(seed: int, size: int = SIZE) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 6)
    return np.searchsorted(np.quantile(field, (0.4, 0.75)), field).astype(np.uint8)


def make_image(seed: int, mask: np.ndarray, noise: float = 80) -> np.ndarray:
    """Return four bands of 12 bits; the last legitimately separates the classes well, as NDVI would."""
    random = np.random.default_rng(1000 + seed)
    texture = gaussian_filter(random.normal(size=(4, *mask.shape)), (0, 1.5, 1.5)) * 600
    signal = np.array([[200, 400, 300], [300, 200, 350], [500, 300, 350], [0, 1600, 3200]])[:, mask]
    grain = random.normal(size=texture.shape) * noise * np.array([1, 1, 1, 6])[:, None, None]
    return np.clip(signal + texture * np.array([1, 1, 1, 0.2])[:, None, None] + grain + 1200, 1, 9000).astype(np.uint16)
