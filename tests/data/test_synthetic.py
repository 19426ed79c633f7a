"""The synthetic dataset: reproducible, georeferenced, and not solvable by colour alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import jaccard_score

from satseg.config import CONFIG_DIR
from satseg.data import SegmentationDataModule
from satseg.errors import ConfigError, ResourceError

SMALL = ["dataset.size=128", "dataset.scenes={train: 2, val: 1, test: 1}"]


def datamodule(cache: Path, *options: str) -> SegmentationDataModule:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"dataset.cache_dir='{cache}'", *options])
    module: SegmentationDataModule = instantiate(cfg.dataset, _convert_="all")
    module.setup()
    return module


def rasters(cache: Path) -> dict[str, bytes]:
    return {"/".join(p.parts[-3:]): p.read_bytes() for p in sorted(cache.rglob("*.tif"))}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_scenes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        datamodule(tmp_path / name, *SMALL, f"dataset.seed={seed}")
    a, b, c = (rasters(tmp_path / name) for name in "abc")
    assert len(a) == 8 and a == b
    assert a.keys() == c.keys() and all(a[k] != c[k] for k in a)
    assert len(set(a.values())) == 8


def test_image_and_mask_share_a_georeferenced_grid_and_scenes_do_not_overlap(tmp_path: Path) -> None:
    datamodule(tmp_path, *SMALL)
    bounds = set()
    for path in sorted(tmp_path.rglob("images/*.tif")):
        with rasterio.open(path) as image, rasterio.open(str(path).replace("images", "masks")) as mask:
            assert image.crs.is_projected and image.crs == mask.crs and image.transform == mask.transform
            assert image.shape == mask.shape and image.nodata == 0 and image.dtypes == ("uint8",) * 3
            assert set(np.unique(mask.read())) <= {*range(7), 255}
            missing = image.dataset_mask() == 0
            assert (mask.read(1)[missing] == 255).all() and 0 < missing.mean() < 0.3
            bounds.add(image.bounds)
    boxes = sorted(bounds)
    assert len(boxes) == 4
    assert not any(a != b and rasterio.coords.disjoint_bounds(a, b) is False for a in boxes for b in boxes)


def test_the_multispectral_scenes_have_the_same_masks_as_the_rgb_ones(tmp_path: Path) -> None:
    datamodule(tmp_path / "rgb", *SMALL)
    spec = datamodule(tmp_path / "six", *SMALL, "dataset=synthetic_multispectral").spec
    assert spec.inputs[0].bands == ("blue", "green", "red", "nir", "swir1", "swir2")
    assert spec.inputs[0].dtype == "uint16"
    rgb, six = rasters(tmp_path / "rgb"), rasters(tmp_path / "six")
    assert rgb.keys() == six.keys() and all((rgb[k] == six[k]) == ("masks" in k) for k in rgb)


def test_an_interrupted_write_leaves_no_incomplete_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import satseg.data.synthetic.datamodule as module

    real, calls = module.write_scene, []

    def full_disk(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(*args)

    monkeypatch.setattr(module, "write_scene", full_disk)
    with pytest.raises(ResourceError, match="No space left on device"):
        datamodule(tmp_path, *SMALL)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert len(datamodule(tmp_path, *SMALL).splits["train"]) == 2


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("channels=infrared", "rgb or multispectral"),
        ("size=64", "128"),
        ("size=4096", "2048"),
        ("scenes.train=5000", "1074 megapixels"),
    ],
)
def test_invalid_options_raise_an_error_that_names_them(tmp_path: Path, option: str, expected: str) -> None:
    with pytest.raises(Exception, match=expected) as caught:
        datamodule(tmp_path, f"dataset.{option}")
    assert isinstance(caught.value, ConfigError) or isinstance(caught.value.__cause__, ConfigError)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate the default scenes, which the demo uses."""
    cache = tmp_path_factory.mktemp("scenes")
    datamodule(cache)
    return cache


def pixels(scenes: Path, split: str, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features and classes of labelled pixels: bands, and statistics of a window if `edge` exceeds 1."""
    features, classes = [], []
    for path in sorted(scenes.rglob(f"{split}/images/*.tif")):
        with rasterio.open(path) as image, rasterio.open(str(path).replace("images", "masks")) as mask:
            bands, truth = image.read().astype(np.float32), mask.read(1)
        pad = window // 2
        around = sliding_window_view(np.pad(bands, ((0, 0), (pad, pad), (pad, pad)), "edge"), (window, window), (1, 2))
        statistics = (
            [bands] if window == 1 else [bands, *(getattr(around, s)((3, 4)) for s in ("mean", "std", "min", "max"))]
        )
        counted = truth != 255
        features.append(np.concatenate(statistics)[:, counted].T)
        classes.append(truth[counted])
    return np.concatenate(features), np.concatenate(classes)


def forest_miou(scenes: Path, window: int) -> float:
    features, classes = pixels(scenes, "train", window)
    chosen = np.random.default_rng(0).choice(len(classes), 100_000, replace=False)
    forest = RandomForestClassifier(60, min_samples_leaf=3, n_jobs=2, random_state=0).fit(
        features[chosen], classes[chosen]
    )
    features, classes = pixels(scenes, "test", window)
    chosen = np.random.default_rng(0).choice(len(classes), 200_000, replace=False)
    return float(jaccard_score(classes[chosen], forest.predict(features[chosen]), average="macro"))


@pytest.mark.slow
def test_every_split_contains_every_class_and_one_class_is_rare(scenes: Path) -> None:
    for split in ("train", "val", "test"):
        _, classes = pixels(scenes, split, 1)
        shares = np.bincount(classes, minlength=7) / len(classes)
        assert (shares > 0.002).all() and shares[6] == shares.min() and shares[6] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("window", "limit"), [(1, 0.55), (5, 0.65)])
def test_a_random_forest_on_colour_or_small_windows_does_not_solve_the_task(
    scenes: Path, window: int, limit: float
) -> None:
    assert 0.1 < forest_miou(scenes, window) <= limit
