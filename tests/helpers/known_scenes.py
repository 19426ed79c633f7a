"""Scenes, and engines simple enough to compute their maps independently."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from torch import Tensor, nn

from satseg.data.rasters.header import Window, read_info
from satseg.inference.products import products_of
from satseg.inference.reading import SceneSource, scene_header
from satseg.inference.scene import SceneTask
from satseg.inference.strips import StripMaker
from satseg.inference.windows import plan_scene
from satseg.spec import DatasetSpec, InputSpec

SPEC = DatasetSpec(
    inputs=(InputSpec(bands=("x", "y"), dtype="uint8", scale=255.0, mean=(0.5, 0.5), std=(0.2, 0.2)),),
    class_names=("a", "b", "c"),
    palette=((10, 20, 30), (200, 0, 0), (0, 200, 0)),
)


@dataclass
class PointwiseEngine:
    """An engine whose logits depend on a single pixel."""

    batch_size: int = 1
    name: str = "pointwise"
    spec: DatasetSpec = SPEC

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        x, y = image[:, 0].float() / 50, image[:, 1].float() / 50
        return torch.stack([x, y, 5 - x - y], 1)

    @staticmethod
    def classes(image: np.ndarray) -> np.ndarray:
        x, y = image.astype(np.float32) / np.float32(50)
        return np.stack([x, y, 5 - x - y]).argmax(0)


@dataclass
class LocalEngine:
    """An engine with a receptive field of three pixels to each side."""

    batch_size: int = 1
    name: str = "local"
    spec: DatasetSpec = SPEC

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 3, 3, padding=1),
        )

    @torch.no_grad()
    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        return self.net(image.float() / 255) * 5


@dataclass
class WindowEngine:
    """An engine whose logits depend on the position in the window, so that seams are visible."""

    batch_size: int = 1
    name: str = "window"
    spec: DatasetSpec = SPEC

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        height, width = valid.shape[1:]
        rows, cols = torch.arange(height)[:, None] / 40.0, torch.arange(width)[None] / 40.0
        planes = torch.stack([rows + 0 * cols, cols + 0 * rows, (rows - cols).abs()])
        return planes.expand(len(image), -1, -1, -1).clone()


def write_scene(
    path: Path,
    height: int,
    width: int,
    *,
    placed: bool = True,
    nodata: bool = True,
    sparse: bool = False,
) -> np.ndarray:
    """Write a scene of two bands with a corner of nodata, and return its values; a sparse one is all 0 but valid."""
    profile: dict[str, Any] = {"driver": "GTiff", "height": height, "width": width, "count": 2, "dtype": "uint8"}
    if placed:
        profile |= {"crs": "EPSG:32640", "transform": rasterio.Affine(10, 0, 300_000, 0, -10, 2_700_000)}
    profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    profile |= {"nodata": 0} if nodata else {}
    if sparse:
        profile |= {"nodata": None, "sparse_ok": True}
    image = np.zeros((2, 1, 1), np.uint8)
    if not sparse:
        image = np.random.default_rng(height * 1000 + width).integers(1, 256, (2, height, width), np.uint8)
        image[:, : height // 3, : width // 4] = 0
    with rasterio.open(path, "w", **profile) as target:
        if not sparse:
            target.write(image if nodata or sparse else np.maximum(image, 1))
    return image if nodata or sparse else np.maximum(image, 1)


def task(
    engine: Any,
    scene: Path,
    output: Path,
    *,
    window: int = 128,
    overlap: int = 16,
    blend: bool = True,
    probabilities: str = "none",
    dtype: str = "float32",
    entropy: bool = False,
    max_ram_gb: float = 1.0,
    area: Window | None = None,
    overviews: str = "nearest",
) -> SceneTask:
    """Return the argument of `predict_scene`."""
    info = read_info(scene)
    source = SceneSource(scene_header(info, area, None), info.bands, area=area)
    plan = plan_scene(source.info.height, source.info.width, window=window, overlap=overlap, blend=blend)
    products = products_of(engine.spec, probabilities=probabilities, dtype=dtype, entropy=entropy)
    return SceneTask(StripMaker(engine, source, plan, products, int(max_ram_gb * 1e9)), output, overviews, {})
