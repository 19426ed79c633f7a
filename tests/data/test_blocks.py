"""Splits by blocks: coverage, buffers, and no leakage between neighbours."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from georeferenced_rasters import at, write
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.ndimage import distance_transform_cdt, gaussian_filter
from sklearn.neighbors import KNeighborsClassifier

from satseg.data.folder import FolderDataModule
from satseg.data.samples import Sample
from satseg.data.splits import Blocks, Random, Splits
from satseg.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def sample(folder: Path, name: str, shape: tuple[int, int], **options: Any) -> Sample:
    path = folder / "images" / f"{name}.tif"
    if not path.exists():
        write(path, np.zeros(shape, np.uint8), sparse_ok=True, **options)
    return Sample(name, path, folder / "masks" / f"{name}.tif")


def split_map(splits: Splits, shape: tuple[int, int]) -> np.ndarray:
    """Return the split (1, 2, 3; 0 for none) of each pixel of the image; checks that none is used twice."""
    found = np.zeros(shape, int)
    for number, samples in enumerate(splits.values(), 1):
        for part in samples:
            col, row, width, height = part.window
            assert 0 <= col < col + width <= shape[1] and 0 <= row < row + height <= shape[0]
            area = found[row : row + height, col : col + width]
            assert not area.any()
            area[:] = number
    return found


def smallest_gap(found: np.ndarray) -> int:
    """Return the smallest number of pixels between two splits, along rows or columns."""
    distances = [
        distance_transform_cdt(found != one, "chessboard")[(found != one) & (found > 0)].min()
        for one in (1, 2, 3)
        if (found == one).any()
    ]
    return int(min(distances)) - 1


@given(st.integers(40, 150), st.integers(40, 150), st.integers(12, 20), st.integers(0, 8), st.integers(0, 10_000))
def test_blocks_cover_a_scene_except_for_the_buffer(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, size: int, buffer: int, seed: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"scene {height} {width}"
    scene = sample(folder, "scene", (height, width))
    splits = Blocks(size, buffer, val=0.2, test=0.3, seed=seed)([scene], folder)
    found = split_map(splits, (height, width))
    assert smallest_gap(found) >= buffer
    rows, cols = round(height / size), round(width / size)
    windows = [s.window for own in splits.values() for s in own]
    assert len(windows) == rows * cols and len(splits["test"]) == round(0.3 * (rows * cols))
    assert min(w.width for w in windows) > width / cols - buffer - 2
    assert buffer or found.all()


def test_there_is_no_buffer_between_blocks_of_the_same_split(tmp_path: Path) -> None:
    scene = sample(tmp_path, "scene", (90, 90))
    splits = Blocks(30, 10, val=["scene:0_0"], test=None)([scene], tmp_path)
    assert {s.window for s in splits["val"]} == {(0, 0, 25, 25)}
    expected = np.ones((90, 90), int)
    expected[:35, :30] = expected[:60, 30:35] = 0
    expected[:25, :25] = 2
    assert (split_map(splits, (90, 90)) == expected).all()
    assert splits["val"][0].name == "scene_0_0_25_25" and splits["val"][0].mask == scene.mask


def test_blocks_can_be_given_in_metres_and_overlapping_scenes_share_them(tmp_path: Path) -> None:
    east = sample(tmp_path, "a", (100, 100), **at(0, 0))
    other = sample(
        tmp_path, "b", (200, 200), **at(500, 0, 5)
    )  # overlaps the first from its middle on, in pixels of 5 m
    split = Blocks(250, 50, "metres", val=0.2, test=0.2, seed=3)
    splits = split([east, other], tmp_path)
    used = np.zeros((3, 200, 300), bool)  # pixels of 5 m
    for number, samples in enumerate(splits.values()):
        for part in samples:
            col, row, width, height = (n * (2 if part.name.startswith("a") else 1) for n in part.window)
            col += 100 if part.name.startswith("b") else 0
            used[number, row : row + height, col : col + width] = True
    assert (used.sum(0) <= 1).all() and used.any((1, 2)).all()
    assert smallest_gap(np.where(used.any(0), used.argmax(0) + 1, 0)) >= 10
    assert {split.group_of(s) for s in splits["val"]}.isdisjoint({split.group_of(s) for s in splits["train"]})


def test_small_images_belong_to_the_block_of_their_centre_and_those_in_the_buffer_are_left_out(tmp_path: Path) -> None:
    samples = [sample(tmp_path, f"{r}_{c}", (16, 16), **at(c * 160, r * 160)) for r in range(8) for c in range(8)]
    near = Blocks(40, 0, val=0.2, test=0.2, seed=1)
    assert sum(map(len, near(samples, tmp_path).values())) == 64 and near.notes == []
    split = Blocks(640, 100, "metres", val=0.25, test=0.25, seed=1)  # 2 x 2 blocks of 4 x 4 images
    splits = split(samples, tmp_path)
    place = {side: np.array([[int(n) for n in s.name.split("_")] for s in found]) for side, found in splits.items()}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        gaps = np.abs(place[one][:, None] - place[other]).max(2) - 1
        assert gaps.min() >= 1  # touching images are nearer than 100 m, so one of 160 m lies between
    assert len(splits["test"]) == 16
    left_out = 64 - sum(map(len, splits.values()))
    assert split.notes == [f"{left_out} of 64 images are left out: closer to another split than the buffer"]
    assert all((np.ptp(p // 4, axis=0) == 0).all() for p in (place["val"], place["test"]))


def test_a_note_says_that_there_is_no_buffer_between_different_crs(tmp_path: Path) -> None:
    samples = [sample(tmp_path, f"{c}", (200, 200), **at(c * 2000, 0)) for c in range(2)]
    split = Blocks(50, 10, seed=1)
    split(samples, tmp_path)
    assert not any("CRS" in note for note in split.notes)
    samples.append(sample(tmp_path, "2", (200, 200), **at(4000, 0) | {"crs": "EPSG:32634"}))
    split(samples, tmp_path)
    assert split.notes[0] == "images have 2 different CRS, without a buffer between them (warp them to one)"


@given(st.integers(0, 5), st.integers(0, 3))
def test_blocks_and_folds_do_not_depend_on_the_order_of_samples(
    tmp_path_factory: pytest.TempPathFactory, seed: int, fold: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "many"
    samples = [sample(folder, f"tile {i}", (10, 10), **at(i % 6 * 100, i // 6 * 100)) for i in range(36)]
    samples += [sample(folder, f"photo {i}", (100, 120)) for i in range(2)]
    found = []
    for _ in range(2):
        random.shuffle(samples)
        splits = Blocks(30, 2, test=0.1, seed=seed, fold=fold, folds=4)(samples, folder)
        found.append({side: sorted((s.name, s.window) for s in own) for side, own in splits.items()})
    assert found[0] == found[1]


def test_each_block_outside_the_test_split_is_validated_in_exactly_one_fold(tmp_path: Path) -> None:
    scene = sample(tmp_path, "scene", (120, 120))
    covered = np.zeros((120, 120), int)
    for fold in range(4):
        splits = Blocks(20, 0, test=0.1, fold=fold, folds=4)([scene], tmp_path)
        covered += split_map({"val": splits["val"]}, (120, 120)) > 0
    assert covered.max() == 1
    assert (covered == 0).sum() == sum(s.window.width * s.window.height for s in splits["test"])


def test_impossible_blocks_raise_an_error(tmp_path: Path) -> None:
    photo = sample(tmp_path, "photo", (50, 50))
    with pytest.raises(DataError, match=r"photo\.tif has no georeference and is no larger than a block"):
        Blocks(100, 10)([photo], tmp_path)
    with pytest.raises(ConfigError, match=r"photo\.tif has no known pixel size"):
        Blocks(100, 10, "metres")([photo], tmp_path)
    with pytest.raises(ConfigError, match="expected a size above 0 and a smaller buffer, in pixels"):
        Blocks(100, 100)
    with pytest.raises(ConfigError, match="choose pixels or metres"):
        Blocks(100, 10, "feet")
    with pytest.raises(DataError, match=r"The val split is empty.*1 blocks of dataset\.split\.size=45 pixels"):
        Blocks(45, 10, val=0, test=0)([photo], tmp_path)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    numbers = np.random.default_rng(0).integers(1, 5000, (2, 300, 400), dtype=np.uint16)
    labels = np.indices((300, 400)).sum(0).astype(np.uint8) % 3
    write(tmp_path / "images/scene.tif", numbers, **at(0, 0))
    write(tmp_path / "masks/scene.tif", labels, **at(0, 0))
    return tmp_path


def module(root: Path, **options: Any) -> FolderDataModule:
    defaults = {"classes": ["a", "b", "c"], "split": Blocks(100, 20), "num_workers": 0, "patch_size": 64}
    found = FolderDataModule(root, **(defaults | {"batch_size": 4, "patches_per_epoch": 40} | options))
    found.setup()
    return found


def test_a_scene_is_trained_on_and_scored_by_its_blocks(scene: Path) -> None:
    data = module(scene)
    with rasterio.open(scene / "images/scene.tif") as image, rasterio.open(scene / "masks/scene.tif") as mask:
        numbers, labels = image.read(), mask.read(1)
    used = np.zeros((3, *labels.shape), bool)
    for number, split in enumerate(("train", "val", "test")):
        parts = {s.name: s.window for s in data.samples_of(split)}
        for batch in data.eval_dataloader(split):
            col, row, width, height = parts[batch["name"][0]]
            area = (slice(row, row + height), slice(col, col + width))
            assert (batch["image"][0].numpy() == numbers[:, *area]).all()
            assert (batch["mask"][0].numpy() == labels[area]).all()
            used[number, *area] = True
    values = numbers[:, used[0]].astype(float)
    source = data.spec.inputs[0]
    assert source.statistics is not None and np.allclose(source.statistics.mean, values.mean(1))
    assert (data.class_counts == np.bincount(labels[used[0]], minlength=3)).all()
    trained = set(numbers[:, used[0]].T.ravel().tolist())
    for batch in data.train_dataloader():
        assert set(batch["image"].permute(0, 2, 3, 1)[batch["valid"]].ravel().tolist()) <= trained
        assert (batch["mask"][~batch["valid"]] == 255).all()


def test_a_patch_larger_than_its_block_has_no_valid_pixels_outside_it(scene: Path) -> None:
    data = module(scene, split=Blocks(50, 10), patch_size=96)
    largest = max(s.window.width * s.window.height for s in data.samples_of("train"))
    for batch in data.train_dataloader():
        assert (batch["valid"].sum((1, 2)) <= largest).all() and (batch["mask"][~batch["valid"]] == 255).all()


def test_the_manifest_holds_windows_and_its_hash_depends_on_them(scene: Path) -> None:
    first, again = module(scene).manifest(), module(scene).manifest()
    other = module(scene, split=Blocks(100, 22)).manifest()
    assert first == again and first["split_hash"] != other["split_hash"]
    assert sorted(first["windows"]) == sorted(n for own in first["splits"].values() for n in own)
    assert all(name == f"scene_{'_'.join(map(str, window))}" for name, window in first["windows"].items())
    assert module(scene).fingerprint != module(scene, split=Blocks(100, 22)).fingerprint
    groups = [set(module(scene).groups(split).values()) for split in ("train", "val", "test")]
    assert (
        sum(map(len, groups)) == len(set().union(*groups)) == len(first["windows"])
    )  # each block is a group of its own


def test_the_configuration_file_of_blocks_can_be_instantiated(root_dir: Path, scene: Path) -> None:
    config = OmegaConf.load(root_dir / "conf/dataset/split/blocks.yaml")
    config.size, config.buffer = 100, 12
    assert module(scene, split=instantiate(config)).manifest()["windows"]


def field(random: np.random.Generator, sigma: float) -> np.ndarray:
    values = gaussian_filter(random.standard_normal((256, 256)), sigma)
    return (values / values.std()).astype(np.float32)


def skill(root: Path, split: Any) -> float:
    """Return the balanced accuracy above chance of a nearest-neighbour classifier of single test pixels."""
    data = module(root, classes=["no", "yes"], split=split)

    def pixels(side: str) -> tuple[np.ndarray, np.ndarray]:
        arrays = [data.reader.read(s) for s in data.samples_of(side)]
        inputs = [image.reshape(len(image), -1).T[::5] for image, _, _ in arrays]
        return np.concatenate(inputs), np.concatenate([mask.ravel()[::5] for _, mask, _ in arrays])

    model = KNeighborsClassifier(1).fit(*pixels("train"))
    inputs, truth = pixels("test")
    predicted = model.predict(inputs)
    return float(np.mean([(predicted[truth == c] == c).mean() for c in (0, 1)])) - 0.5


def test_a_random_split_scores_above_chance_on_noise_and_buffered_blocks_do_not(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    image = np.stack([field(random, 12) for _ in range(6)])  # spatially correlated, so that it identifies the location
    labels = (field(random, 6) > 0).astype(np.uint8)  # spatially correlated, but independent of the image
    for row, col in np.ndindex(16, 16):
        name, area = f"{row:02d}_{col:02d}.tif", np.s_[..., 16 * row : 16 * row + 16, 16 * col : 16 * col + 16]
        write(tmp_path / "images" / name, image[area], **at(col * 160, row * 160))
        write(tmp_path / "masks" / name, labels[area], **at(col * 160, row * 160))
    leaking = skill(tmp_path, Random(0.1, 0.2))
    honest = [skill(tmp_path, Blocks(64, 24, val=0.1, test=0.2, seed=seed)) for seed in range(4)]
    assert leaking > 0.2
    assert abs(np.mean(honest)) < 0.05 and max(honest) < leaking / 2
