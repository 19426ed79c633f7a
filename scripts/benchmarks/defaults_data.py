"""Datasets of `defaults.py`, as folders that both satseg and the plain loop read.

`<folder>/mine/{train,val}` is for training, `<folder>/test` for scoring; each has `images` and `masks`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from plain_loop import IGNORE

Part = tuple[str, str, np.ndarray, np.ndarray]  # train, val or test; name; image (C, H, W); mask (H, W) uint8

TILES = {"mine/train": (1, 3, 4, 5, 7), "mine/val": (2,), "test": (6, 8)}  # the nine parts of a tile are adjacent
COLOURS = {
    "land": (132, 41, 246),
    "water": (226, 169, 41),
    "building": (60, 16, 152),
    "vegetation": (254, 221, 58),
    "road": (110, 193, 228),
}
SHRINK = 3  # of Dubai, so that scoring 34 million pixels does not take most of the time
CELL, GAP = 128, 8  # of the chip: blocks of 112 x 112 pixels, 16 apart
# Row and column; the others are for training.
BLOCKS = {"mine/val": [(1, 3), (3, 2)], "test": [(0, 3), (1, 1), (2, 2), (3, 0)]}


def dubai(shared: Path) -> Iterator[Part]:
    """Satellite images in red, green and blue, at a third of their resolution, split by tile."""
    for split, tiles in TILES.items():
        folders = [shared / "data/dubai" / f"Tile {tile}" / "images" for tile in tiles]
        for path in (path for folder in folders for path in sorted(folder.glob("*.jpg"))):
            colours = np.array(Image.open(path.parents[1] / "masks" / f"{path.stem}.png").convert("RGB"))
            mask = np.full(colours.shape[:2], IGNORE, np.uint8)
            for number, colour in enumerate(COLOURS.values()):
                mask[(colours == colour).all(-1)] = number
            image = np.array(Image.open(path).convert("RGB").reduce(SHRINK)).transpose(2, 0, 1)
            mask = mask[SHRINK // 2 :: SHRINK, SHRINK // 2 :: SHRINK]
            name = f"{path.parents[1].name}_{path.stem}".replace(" ", "_").lower()
            yield split, name, image[:, : len(mask), : mask.shape[1]], mask[: image.shape[1], : image.shape[2]]


def chip(shared: Path) -> Iterator[Part]:
    """One flood scene in 13 bands of int16, cut into blocks with gaps."""
    folder = shared / "data/sen1floods11"
    (image,), (mask,) = (list(folder.glob(f"*_{kind}.tif")) for kind in ("S2Hand", "LabelHand"))
    with rasterio.open(image) as bands, rasterio.open(mask) as labels:
        pixels, classes = bands.read(), labels.read(1)
    classes = np.where(classes < 0, IGNORE, classes).astype(np.uint8)
    for row, col in np.ndindex(pixels.shape[1] // CELL, pixels.shape[2] // CELL):
        rows, cols = (slice(n * CELL + GAP, (n + 1) * CELL - GAP) for n in (row, col))
        (split,) = [s for s, blocks in BLOCKS.items() if (row, col) in blocks] or ["mine/train"]
        yield split, f"block_{row}_{col}", pixels[:, rows, cols], classes[rows, cols]


def embedded(shared: Path, channels: str = "rgb") -> Iterator[Part]:
    """The scenes of `dataset=synthetic`."""
    from satseg.data.synthetic.datamodule import SyntheticDataModule

    scenes = SyntheticDataModule(split=dict, scenes={"train": 12, "val": 3, "test": 4}, channels=channels)
    for sample in scenes.samples():
        split = sample.file.parents[1].name
        with rasterio.open(sample.file) as image, rasterio.open(sample.mask) as mask:
            yield split if split == "test" else f"mine/{split}", sample.file.stem, image.read(), mask.read(1)


def embedded_bands(shared: Path) -> Iterator[Part]:
    """The same in six bands of uint16."""
    yield from embedded(shared, "multispectral")


LAND_COVER = ("water", "forest", "cropland", "bare_land", "road", "building", "solar_park")
SETS: dict[str, tuple[Callable[[Path], Iterator[Part]], tuple[str, ...]]] = {
    "dubai": (dubai, tuple(COLOURS)),
    "chip": (chip, ("land", "water")),
    "embedded": (embedded, LAND_COVER),
    "embedded_bands": (embedded_bands, LAND_COVER),
}


def prepare(name: str, shared: Path, folder: Path) -> None:
    """Write a dataset, unless it exists."""
    if (folder / "done").exists():
        return
    for split, stem, image, mask in SETS[name][0](shared):
        for kind, array in (("images", image), ("masks", mask[None])):
            path = folder / split / kind / f"{stem}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            count, height, width = array.shape
            size = {"count": count, "height": height, "width": width, "dtype": array.dtype}
            with rasterio.open(path, "w", driver="GTiff", photometric="minisblack", **size) as file:
                file.write(array)
    (folder / "done").touch()
