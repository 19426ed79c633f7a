"""Changes that turn an image into a near duplicate: rotation, compression, noise, scaling and resampling."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from dataset_files import UTM, write
from PIL import Image
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

Change = Callable[[np.ndarray], np.ndarray]  # of an image (bands, height, width)
ORIENTATIONS = {
    "rotated by 90°": lambda image: np.rot90(image, 1, (1, 2)),
    "rotated by 180°": lambda image: np.rot90(image, 2, (1, 2)),
    "rotated by 90° the other way": lambda image: np.rot90(image, 3, (1, 2)),
    "mirrored left to right": lambda image: image[:, :, ::-1],
    "mirrored top to bottom": lambda image: image[:, ::-1],
    "rotated by 90° and mirrored": lambda image: image.swapaxes(1, 2),
    "rotated by 90° and mirrored the other way": lambda image: np.rot90(image, 2, (1, 2)).swapaxes(1, 2),
}


def to_pillow(from_pillow: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(from_pillow[:3], 0, -1)).astype(np.uint8))


def from_pillow(picture: Image.Image) -> np.ndarray:
    return np.moveaxis(np.asarray(picture), -1, 0)


def jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    to_pillow(image).save(file, "JPEG", quality=60)
    return from_pillow(Image.open(file))


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(image.size).normal(size=image.shape) * 8
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def enlarged(image: np.ndarray) -> np.ndarray:
    """Return the centre, enlarged by 10 %."""
    picture = to_pillow(image)
    edge = [side * (1 - 1 / 1.1) / 2 for side in picture.size]
    box = (*edge, *(side - e for side, e in zip(picture.size, edge, strict=True)))
    return from_pillow(picture.resize(picture.size, Image.Resampling.BICUBIC, box=box))


def reduced(image: np.ndarray) -> np.ndarray:
    """Return the image reduced by 10 %, padded by reflection."""
    picture = to_pillow(image)
    small = from_pillow(picture.resize([round(side / 1.1) for side in picture.size], Image.Resampling.LANCZOS))
    missing = [big - little for big, little in zip(image.shape[1:], small.shape[1:], strict=True)]
    return np.pad(small, ((0, 0), *((m // 2, m - m // 2) for m in missing)), mode="reflect")


def resampled(image: np.ndarray, folder: Path, resampling: Resampling, crs: str = UTM, by: float = 0.5) -> np.ndarray:
    """Warp an image by a fraction of a pixel or into another CRS."""
    path = folder / "scene.tif"
    write(path, image)
    with rasterio.open(path) as file:
        moved = {
            "transform": file.transform @ rasterio.Affine.translation(by, by),
            "width": file.width,
            "height": file.height,
        }
        with WarpedVRT(file, crs=crs, resampling=resampling, **(moved if crs == UTM else {})) as warped:
            return warped.read()
