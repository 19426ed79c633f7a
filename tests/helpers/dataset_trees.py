"""Tiny copies of known datasets with the folders and file names of their downloads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image

SIZE = 16

Value = int | tuple[int, int, int]


@dataclass
class Tree:
    """Contents of a tiny copy, and the expected result of reading it.

    Attributes:
        values: Values or colours of the masks in the order of the classes, as documented by the dataset.
        splits: Number of training, validation and test samples.
        pairs: Image and mask files; None for masks that are not public.
        ignored: Mask values that are no class.
        lists: Text files and their contents.
        bands: Number of bands of the stored images.
        dtype: Data type of the images.
        alpha: True if the last band is an alpha band.
        unpaired: Masks without an image.
    """

    values: Sequence[Value]
    splits: tuple[int, int, int]
    pairs: list[tuple[str, str | None]]
    ignored: Sequence[Value] = ()
    lists: dict[str, str] = field(default_factory=dict)
    bands: int = 3
    dtype: str = "uint8"
    alpha: bool = False
    unpaired: Sequence[str] = ()

    def write(self, root: Path) -> None:
        """Write the files."""
        for image, mask in self.pairs:
            _write(root / image, np.ones((self.bands, SIZE, SIZE)), self.dtype, self.alpha)
            if mask is not None:
                _write(root / mask, self.mask(), "int16" if -1 in self.ignored else "uint8")
        for mask in self.unpaired:
            _write(root / mask, self.mask(), "uint8")
        for name, text in self.lists.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")

    def mask(self) -> np.ndarray:
        """Return a mask (B, h, w) whose first row lists every class and then every ignored value."""
        every = np.array([*self.values, *self.ignored]).reshape(len(self.values) + len(self.ignored), -1)
        mask = np.empty((every.shape[1], SIZE, SIZE), np.int16)
        mask[:] = every[0][:, None, None]
        row = np.concatenate([every, every[:1].repeat(2 * SIZE - len(every), axis=0)]).T
        mask[:, :2] = row.reshape(-1, 2, SIZE)
        return mask

    def indices(self) -> list[int]:
        """Return the expected class indices of the first pixels of a mask."""
        return [*range(len(self.values)), *[255] * len(self.ignored)]


def _write(path: Path, array: np.ndarray, dtype: str, alpha: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = array.astype(dtype)
    if path.suffix in (".tif", ".tiff"):
        options: dict[str, Any] = {"count": len(array), "height": SIZE, "width": SIZE, "dtype": dtype}
        if alpha:
            options |= {"photometric": "rgb", "alpha": "yes"}
        with rasterio.open(path, "w", driver="GTiff", **options) as file:
            file.write(array)
    else:
        Image.fromarray(array[0] if len(array) == 1 else np.moveaxis(array, 0, 2)).save(path)


def dubai() -> Tree:
    pairs = [
        (f"Tile {t}/images/image_part_00{k}.jpg", f"Tile {t}/masks/image_part_00{k}.png")
        for t in range(1, 9)
        for k in (1, 2)
    ]
    values = [(132, 41, 246), (226, 169, 41), (60, 16, 152), (254, 221, 58), (110, 193, 228)]
    return Tree(values, (10, 2, 4), pairs, ignored=[(155, 155, 155), (0, 0, 0)])


def loveda() -> Tree:
    places = [("Train", "Urban", 0), ("Train", "Rural", 1366), ("Val", "Urban", 2522), ("Val", "Rural", 3514)]
    pairs: list[tuple[str, str | None]] = [
        (f"{s}/{place}/images_png/{n}.png", f"{s}/{place}/masks_png/{n}.png") for s, place, n in places
    ]
    pairs += [("Test/Urban/images_png/4191.png", None)]
    return Tree([1, 2, 3, 4, 5, 6, 7], (2, 2, 0), pairs, ignored=[0])


def landcover_ai() -> Tree:
    names = [f"M-33-20-D-c-4-2_{i}" for i in range(4)] + ["N-34-97-D-c-2-4_10"]
    lists = {"train.txt": "\n".join(names[:2]) + "\n", "val.txt": names[2] + "\n", "test.txt": "\n".join(names[3:])}
    return Tree(range(5), (2, 1, 2), [(f"output/{n}.jpg", f"output/{n}_m.png") for n in names], lists=lists)


def deepglobe() -> Tree:
    numbers = [119, 606, 855, 2334, 3387, 6399, 7791, 8485, 10452, 10901]
    pairs: list[tuple[str, str | None]] = [(f"train/{n}_sat.jpg", f"train/{n}_mask.png") for n in numbers]
    pairs += [("valid/5142_sat.jpg", None), ("test/1054_sat.jpg", None)]
    values = [(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    return Tree(values, (8, 2, 0), pairs, ignored=[(0, 0, 0), (3, 2, 100)])


def openearthmap() -> Tree:
    pairs: list[tuple[str, str | None]] = [
        (f"{place}/images/{place}_{i}.tif", f"{place}/labels/{place}_{i}.tif")
        for place in ("aachen", "tokyo")
        for i in (1, 2, 3)
    ]
    pairs += [("aachen/images/aachen_4.tif", None)]
    lists = {
        "train.txt": "aachen_1.tif\naachen_2.tif\ntokyo_1.tif\nhouston_1.tif\n",  # the last belongs to xBD
        "val.txt": "aachen_3.tif\ntokyo_2.tif\n",
        "test.txt": "aachen_4.tif\n",
    }
    return Tree(range(1, 9), (3, 2, 0), pairs, ignored=[0], lists=lists, unpaired=["houston/labels/houston_1.tif"])


ISPRS = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)]


def potsdam() -> Tree:
    rows = {2: range(10, 15), 3: range(10, 15), 4: range(10, 16), 5: range(10, 16), 6: range(7, 16), 7: range(7, 14)}
    tiles = [f"top_potsdam_{row}_{column}" for row, columns in rows.items() for column in columns]
    pairs = [(f"4_Ortho_RGBIR/{tile}_RGBIR.tif", f"{tile}_label.tif") for tile in tiles]
    return Tree(ISPRS, (23, 1, 14), pairs, ignored=[(0, 0, 0)], bands=4, alpha=True)


def vaihingen() -> Tree:
    areas = [*range(1, 9), *range(10, 18), *range(20, 25), *range(26, 36), 37, 38]
    pairs = [
        (f"top/top_mosaic_09cm_area{a}.tif", f"top_mosaic_09cm_area{a}.tif") for a in areas if a not in (9, 18, 25)
    ]
    return Tree(ISPRS, (15, 1, 17), pairs, ignored=[(0, 0, 0)])


def inria() -> Tree:
    towns = ("austin", "chicago", "kitsap", "tyrol-w", "vienna")
    pairs: list[tuple[str, str | None]] = [
        (f"train/images/{town}{i}.tif", f"train/gt/{town}{i}.tif") for town in towns for i in (*range(1, 7), 12)
    ]
    pairs += [("test/images/bellingham1.tif", None)]
    return Tree([0, 255], (10, 25, 0), pairs)


def _massachusetts(values: Sequence[Value]) -> Tree:
    names = [("train", "22678915_15"), ("train", "22678930_15"), ("valid", "22978945_15"), ("test", "22828930_15")]
    return Tree(values, (2, 1, 1), [(f"{s}/sat/{n}.tiff", f"{s}/map/{n}.tif") for s, n in names])


def massachusetts_buildings() -> Tree:
    return _massachusetts([(0, 0, 0), (255, 0, 0)])


def massachusetts_roads() -> Tree:
    return _massachusetts([0, 255])


def floodnet() -> Tree:
    numbers = [("train", 6279), ("train", 10165), ("val", 6412), ("test", 7577)]
    pairs = [(f"{s}/{s}-org-img/{n}.jpg", f"{s}/{s}-label-img/{n}_lab.png") for s, n in numbers]
    return Tree(range(10), (2, 1, 1), pairs)


def sen1floods11() -> Tree:
    hand = "data/flood_events/HandLabeled"
    chips = ["Ghana_103272", "Spain_7370579", "USA_1010394", "India_1017769", "Bolivia_103757"]
    pairs = [(f"{hand}/S2Hand/{c}_S2Hand.tif", f"{hand}/LabelHand/{c}_LabelHand.tif") for c in chips]
    lines = [f"{c}_S1Hand.tif,{c}_LabelHand.tif\n" for c in chips]
    folder = "splits/flood_handlabeled/flood_"
    lists = {"train": "".join(lines[:2]), "valid": lines[2], "test": lines[3], "bolivia": lines[4]}
    lists = {f"{folder}{split}_data.csv": text for split, text in lists.items()}
    return Tree([0, 1], (2, 1, 1), pairs, ignored=[-1], lists=lists, bands=13, dtype="int16")


def marida() -> Tree:
    patches = ["1-12-19_48MYU_0", "1-12-19_48MYU_1", "11-1-19_19QDA_0", "12-12-20_16PCC_6", "2-12-20_16PCC_6"]
    folders = [f"patches/S2_{p.rpartition('_')[0]}/S2_{p}" for p in patches]
    pairs = [(f"{f}.tif", f"{f}_cl.tif") for f in folders]
    lists = {"train": "\n".join(patches[:3]), "val": patches[3], "test": patches[4]}
    lists = {f"splits/{split}_X.txt": text + "\n" for split, text in lists.items()}
    confidence = [f"{f}_conf.tif" for f in folders]
    return Tree(range(1, 16), (3, 1, 1), pairs, [0], lists, bands=11, dtype="float32", unpaired=confidence)


TREES: dict[str, Callable[[], Tree]] = {
    make.__name__: make
    for make in (
        dubai,
        loveda,
        landcover_ai,
        deepglobe,
        openearthmap,
        potsdam,
        vaihingen,
        inria,
        massachusetts_buildings,
        massachusetts_roads,
        floodnet,
        sen1floods11,
        marida,
    )
}
