"""Patch sampling: a pure function of (seed, epoch, index), by area or balanced by class."""

from pathlib import Path

import numpy as np
import pytest
from georeferenced_rasters import at, write
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from satseg.data.folder import FolderDataModule
from satseg.data.sampling.locations import Balanced, ClassLocations
from satseg.data.sampling.sampler import PatchBatchSampler
from satseg.data.splits import Splits
from satseg.errors import ConfigError

SIZES = [(100, 300), (50, 40), (200, 200)]


def sampler(**options: object) -> PatchBatchSampler:
    return PatchBatchSampler(SIZES, **{"patch_size": 64, "batch_size": 4, "num_patches": 22, "seed": 0} | options)


def test_an_epoch_has_full_batches_and_each_pass_is_the_next_epoch() -> None:
    one, two = sampler(), sampler()
    first, second = list(one), list(one)
    assert len(one) == 6 and [len(b) for b in first] == [4] * 6  # 22 patches
    assert len(sampler(num_patches=20)) == 5 and len(sampler(num_patches=1)) == 1
    assert first != second
    two.epoch = 1
    assert list(two) == second


def test_ranks_divide_an_epoch_without_overlap() -> None:
    whole = [request for batch in sampler(batch_size=8) for request in batch]
    parts = [list(sampler(rank=rank, world_size=2)) for rank in range(2)]
    joined = [request for batches in zip(*parts, strict=True) for batch in batches for request in batch]
    assert joined == whole


def test_images_are_drawn_in_proportion_to_their_area() -> None:
    draws = [request.sample for batch in sampler(num_patches=8000) for request in batch]
    areas = np.array([h * w for h, w in SIZES])
    assert np.allclose(np.bincount(draws) / len(draws), areas / areas.sum(), atol=0.02)


@given(st.integers(0, 2**31), st.integers(0, 1000), st.floats(0.5, 1.0), st.floats(1.0, 2.0))
def test_a_window_lies_inside_its_image_or_contains_a_smaller_one(
    seed: int, index: int, low: float, high: float
) -> None:
    request = sampler(seed=seed, zoom=(low, high)).request(3, index)
    height, width = SIZES[request.sample]
    edge = request.window.width
    assert request.window.height == edge and round(64 / high) <= edge <= round(64 / low)
    for start, length in ((request.window.col, width), (request.window.row, height)):
        if length >= edge:
            assert 0 <= start <= length - edge
        else:
            assert length - edge <= start <= 0


def test_without_zoom_windows_have_the_patch_size() -> None:
    assert {request.window.width for batch in sampler() for request in batch} == {64}


@pytest.fixture
def rare(tmp_path: Path) -> FolderDataModule:
    """Return a dataset of three images of one class, with small areas of a second and a third one."""
    for i, shape in enumerate([(300, 500), (200, 90), (50, 60)]):
        mask = np.zeros(shape, np.uint8)
        if i == 0:
            mask[290:, 480:] = 1  # in the incomplete cells at the edge
        if i == 1:
            mask[70:75, 10:15] = 2
            mask[:60] = 255
        write(tmp_path / f"images/{i}.tif", np.full((3, *shape), 7, np.uint8), **at(0, 0))
        write(tmp_path / f"masks/{i}.tif", mask, **at(0, 0))

    def all_in_train_and_val(samples: object, root: Path) -> Splits:
        return {"train": list(samples), "val": list(samples), "test": []}

    return FolderDataModule(
        tmp_path, classes=["a", "b", "c"], split=all_in_train_and_val, sampler=Balanced(), num_workers=0, patch_size=80,
        batch_size=2, patches_per_epoch=400,
    )  # fmt: skip


def test_balanced_sampling_draws_every_class_equally_often(rare: FolderDataModule) -> None:
    seen = np.array(
        [[(mask == c).any() for c in range(3)] for batch in rare.train_dataloader() for mask in batch["mask"]]
    )
    assert (seen.mean(0) > [0.9, 0.28, 0.28]).all() and (seen.mean(0)[1:] < 0.45).all()
    area = FolderDataModule(rare.root, classes=["a", "b", "c"], split=rare.split, num_workers=0, patch_size=80)
    assert not any((batch["mask"] == 2).any() for batch in list(area.train_dataloader())[:3])


@given(st.integers(0, 2**31), st.integers(0, 1000), st.sampled_from([0.0, 0.5, 1.0]))
def test_a_window_contains_the_cell_for_which_it_was_drawn(seed: int, index: int, power: float) -> None:
    cells = [np.array([[0, 0, 0], [0, 1, 4]]), np.array([[1, 0, 0]]), np.array([[2, 3, 3]])]
    locations = ClassLocations(
        SIZES, cells, np.cumsum(np.array([2, 1, 1]) ** power / np.sum(np.array([2, 1, 1]) ** power))
    )
    drawn = sampler(seed=seed, zoom=(0.8, 1.0), locations=locations).request(1, index)
    again = sampler(seed=seed, zoom=(0.8, 1.0), locations=locations).request(1, index)
    assert drawn == again
    height, width = SIZES[drawn.sample]
    window = drawn.window
    fits = [
        (cell[1] * 64 >= window.row and min(cell[1] * 64 + 64, height) <= window.row + window.height)
        and (cell[2] * 64 >= window.col and min(cell[2] * 64 + 64, width) <= window.col + window.width)
        for c in cells
        for cell in c
        if cell[0] == drawn.sample
    ]
    assert any(fits)
    for start, length in ((window.col, width), (window.row, height)):
        assert min(0, length - window.width) <= start <= max(0, length - window.width)


def test_a_power_of_one_draws_classes_in_proportion_to_their_cells(rare: FolderDataModule) -> None:
    samples, draws = rare.splits["train"], {}
    for power in (0.0, 1.0):
        locations = Balanced(power)(samples, rare.reader)
        random = np.random.default_rng(0)
        draws[power] = np.bincount([locations.choose(random)[0] for _ in range(3000)], minlength=3) / 3000
    # 40 cells of image 0 have a, one has b; 8 of image 1 have a, one has c; 1 of image 2 has a
    assert np.allclose(draws[1.0], np.array([41, 9, 1]) / 51, atol=0.03)
    assert np.allclose(draws[0.0], (np.array([40, 8, 1]) / 49 + [1, 1, 0]) / 3, atol=0.03)
    with pytest.raises(ConfigError, match=r"dataset\.sampler\.power=2: expected a number from 0 to 1"):
        Balanced(2)


@pytest.mark.parametrize("choice", ["area", "balanced"])
def test_every_sampler_configuration_can_be_instantiated(root_dir: Path, rare: FolderDataModule, choice: str) -> None:
    made = instantiate(OmegaConf.load(root_dir / f"conf/dataset/sampler/{choice}.yaml"))
    sample, target = made(rare.splits["train"], rare.reader).choose(np.random.default_rng(0))
    assert sample in (0, 1, 2) and (target is None) == (choice == "area")
