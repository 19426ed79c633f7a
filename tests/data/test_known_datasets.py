"""The configurations of known datasets, on tiny copies of their published layouts."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from dataset_trees import TREES
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from satseg.config import CONFIG_DIR
from satseg.data import SegmentationDataModule
from satseg.errors import DataError

OURS = {"base", "folder", "synthetic", "synthetic_multispectral"}
KNOWN = sorted({path.stem for path in (CONFIG_DIR / "dataset").glob("*.yaml")} - OURS)


def build(name: str, root: Path, *options: str) -> SegmentationDataModule:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"dataset={name}", *options, "dataset.num_workers=0"])
    cfg.dataset.root = str(root)
    module: SegmentationDataModule = instantiate(cfg.dataset, _convert_="all")
    module.setup()
    return module


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_dataset_is_read_from_its_published_layout(name: str, tmp_path: Path) -> None:
    tree = TREES[name]()
    tree.write(tmp_path)
    module = build(name, tmp_path)
    assert tuple(len(module.splits.get(split, [])) for split in ("train", "val", "test")) == tree.splits
    for samples in module.splits.values():
        for sample in samples:
            image, mask, valid = module.reader.read(sample)
            assert image.shape[0] == tree.bands and image.dtype == tree.dtype and valid.all()
            assert mask.ravel()[: len(tree.indices())].tolist() == tree.indices()
    assert len(module.spec.class_names) == len(tree.values)


@pytest.mark.parametrize("name", [n for n in KNOWN if isinstance(next(iter(TREES[n]().values)), tuple)])
def test_the_palette_has_the_colours_of_the_masks(name: str, tmp_path: Path) -> None:
    tree = TREES[name]()
    tree.write(tmp_path)
    assert list(build(name, tmp_path).spec.palette) == list(tree.values)


@pytest.mark.parametrize("name", ["massachusetts_buildings", "massachusetts_roads"])
def test_the_options_for_the_kaggle_layout_in_the_header_of_the_file_work(name: str, tmp_path: Path) -> None:
    tree = TREES[name]()
    tree.pairs = [
        (f"tiff/{split}/{i}.tiff", f"tiff/{split}_labels/{i}.tif") for i, split in enumerate(("train", "val", "test"))
    ]
    tree.values = [(0, 0, 0), (255, 255, 255)]
    tree.write(tmp_path)
    header = (CONFIG_DIR / f"dataset/{name}.yaml").read_text()
    options = [f"dataset.{text}" for text in header.replace("\n#", "").split("defaults")[0].split(" dataset.")[1:]]
    module = build(name, tmp_path, *[" ".join(o.split()).split(" ")[0] for o in options])
    assert [len(module.splits[split]) for split in ("train", "val", "test")] == [1, 1, 1]
    assert module.reader.read(module.splits["val"][0])[1].ravel()[:2].tolist() == [0, 1]


def test_off_palette_colours_in_two_potsdam_labels_are_mapped_to_their_classes(tmp_path: Path) -> None:
    tree = TREES["potsdam"]()
    tree.write(tmp_path)
    impure = {"4_12": [(225, 227, 227), (9, 222, 221)], "6_7": [(252, 255, 0), (0, 0, 255)]}
    for tile, colours in impure.items():
        with rasterio.open(tmp_path / f"top_potsdam_{tile}_label.tif", "r+") as file:
            file.write(np.array(colours, np.uint8).T[:, None, :], window=rasterio.windows.Window(0, 0, 2, 1))
    module = build("potsdam", tmp_path)
    samples = {sample.name: sample for sample in module.splits["train"]}
    read = {tile: module.reader.read(samples[f"top_potsdam_{tile}"])[1][0, :2].tolist() for tile in impure}
    assert read == {"4_12": [0, 2], "6_7": [4, 1]}


def test_missing_parts_of_openearthmap_are_reported(tmp_path: Path) -> None:
    TREES["openearthmap"]().write(tmp_path)
    reported = build("openearthmap", tmp_path).assumptions
    assert [t.split(" (")[0] for t in reported] == [
        "1 images without a mask are left out",
        "1 masks without an image are left out",
        "1 images are in no split",
    ]
    with pytest.raises(DataError, match=r"1 images have no mask, the first is aachen/images/aachen_4\.tif"):
        build("openearthmap", tmp_path, "dataset.unpaired=refuse")
    with pytest.raises(DataError, match=r"train\.txt names houston_1\.tif"):
        build("openearthmap", tmp_path, "dataset.split.missing=refuse")


def table(root: Path) -> Any:
    spec = importlib.util.spec_from_file_location("dataset_table", root / "scripts/dataset_table.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documentation_has_the_table_of_known_datasets(root_dir: Path) -> None:
    script = table(root_dir)
    assert script.known() == KNOWN
    assert script.table() in (root_dir / "docs/datasets.md").read_text(encoding="utf-8")
