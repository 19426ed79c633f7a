"""Splits into training, validation and test samples, and cross-validation folds."""

import random
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from satseg.data.samples import Sample
from satseg.data.splits import Group, List, Random, Stratified, Subfolder
from satseg.errors import ConfigError, DataError

ROOT = Path("/data")
TILES = [f"Tile {t}/part_{p}" for t in range(1, 11) for p in range(3)]


def make(names: list[str], root: Path = ROOT) -> list[Sample]:
    return [Sample(n, root / "images" / f"{n}.png", root / "masks" / f"{n}.png") for n in names]


def names(splits: dict[str, list[Sample]]) -> dict[str, list[str]]:
    return {split: [s.name for s in samples] for split, samples in splits.items()}


@given(st.sets(st.text("abc/é 1", min_size=1), min_size=10, max_size=60), st.integers(0, 9), st.randoms())
def test_a_random_split_contains_all_samples_and_does_not_depend_on_their_order(given_names, seed, rng):
    ordered = sorted(given_names)
    splits = names(Random(0.2, 0.3, seed)(make(ordered), ROOT))
    assert sorted(chain(*splits.values())) == ordered
    assert (len(splits["val"]), len(splits["test"])) == (round(0.2 * len(ordered)), round(0.3 * len(ordered)))
    assert all(split == sorted(split) for split in splits.values())
    rng.shuffle(ordered)
    assert {k: sorted(v) for k, v in names(Random(0.2, 0.3, seed)(make(ordered), ROOT)).items()} == splits


def test_a_random_split_is_the_same_on_every_machine():
    splits = names(Random(0.2, 0.2, 0)(make([f"scene_{i}" for i in range(10)]), ROOT))
    assert splits["test"] == ["scene_0", "scene_4"]  # lowest SHA-256 of seed and name; must never change
    assert splits["val"] == ["scene_2", "scene_5"]


def test_another_seed_gives_another_split():
    samples = make([f"scene_{i}" for i in range(50)])
    assert names(Random(seed=0)(samples, ROOT)) != names(Random(seed=1)(samples, ROOT))


def test_a_small_share_gives_one_sample_and_a_share_of_zero_none():
    splits = names(Random(0.01, 0)(make(["a", "b", "c"]), ROOT))
    assert [len(splits[s]) for s in ("train", "val", "test")] == [2, 1, 0]


@pytest.mark.parametrize(("val", "test"), [(1.0, 0.1), (-0.1, 0.1), (0.1, 2)])
def test_a_share_outside_0_to_1_raises_an_error(val, test):
    with pytest.raises(ConfigError, match=r"dataset\.split\..*expected a share"):
        Random(val, test)(make(["a", "b", "c"]), ROOT)


@pytest.mark.parametrize(("val", "test", "empty"), [(0, 0.5, "val"), (0.5, 0.5, "train")])
def test_an_empty_split_raises_an_error(val, test, empty):
    with pytest.raises(DataError, match=f"The {empty} split is empty"):
        Random(val, test)(make(["a", "b"]), ROOT)


@given(st.integers(0, 20))
def test_a_group_is_never_divided_between_splits(seed):
    splits = names(Group(r"Tile (\d+)", 0.2, 0.3, seed)(make(TILES), ROOT))
    tiles = {split: {n.split("/")[0] for n in found} for split, found in splits.items()}
    assert [len(tiles[s]) for s in ("train", "val", "test")] == [5, 2, 3]
    assert len(set.union(*tiles.values())) == 10
    assert sum(map(len, splits.values())) == len(TILES)


def test_groups_can_be_selected_by_name_or_number():
    splits = names(Group(r"Tile (\d+)", ["2"], [6, 8])(make(TILES), ROOT))
    assert splits["val"] == [f"Tile 2/part_{p}" for p in range(3)]
    assert splits["test"] == [f"Tile {t}/part_{p}" for t in (6, 8) for p in range(3)]
    assert names(Group(r"Tile \d+", "Tile 2", None)(make(TILES), ROOT))["test"] == []


@pytest.mark.parametrize("seed", range(8))
def test_a_test_share_never_contains_groups_listed_for_validation(seed):
    splits = names(Group(r"Tile (\d+)", ["1", "2", "3", "4", "5"], 0.3, seed)(make(TILES), ROOT))
    assert not {*splits["val"]} & {*splits["test"]}
    assert len(splits["test"]) == 9


def test_invalid_groups_raise_an_error():
    with pytest.raises(DataError, match="names the group 11; there are 1, 2, 3"):
        Group(r"Tile (\d+)", ["11"], [])(make(TILES), ROOT)
    with pytest.raises(DataError, match="would be in the"):
        Group(r"Tile (\d+)", ["1"], ["1"])(make(TILES), ROOT)
    with pytest.raises(DataError, match="is not found in the name other"):
        Group(r"Tile (\d+)")(make([*TILES, "other"]), ROOT)
    with pytest.raises(ConfigError, match="not a regular expression"):
        Group("Tile (")


def test_subfolders_are_found_anywhere_in_the_path():
    samples = make(["train/a", "x/train/b", "val/a", "c"])
    assert names(Subfolder()(samples, ROOT)) == {"train": ["train/a", "x/train/b"], "val": ["val/a"], "test": []}
    splits = Subfolder("x", "validation", "holdout")(make(["x/1", "validation/2", "holdout/3", "train.png"]), ROOT)
    assert names(splits) == {"train": ["x/1"], "val": ["validation/2"], "test": ["holdout/3"]}


def test_missing_or_nested_subfolders_raise_an_error():
    with pytest.raises(DataError, match=r"val split is empty \(1 train, 0 val, 0 test\).*train, val, test below /data"):
        Subfolder()(make(["train/a"]), ROOT)
    with pytest.raises(DataError, match="train/val/a would be in"):
        Subfolder()(make(["train/a", "train/val/a"]), ROOT)


def write(root: Path, **lists: str) -> Path:
    for name, text in lists.items():
        (root / f"{name}.txt").write_text(text, encoding="utf-8")
    return root


def test_lists_may_contain_names_file_names_and_image_paths(tmp_path):
    samples = make(["é/a", "b.v2", "c", "d", "e"], tmp_path)
    write(tmp_path, train="\ufeff# ours\né/a\n\nb.v2\n", val="c.png\n c.png \n", test="images/d.png")
    expected = {"train": ["é/a", "b.v2"], "val": ["c"], "test": ["d"]}
    assert names(List()(samples, tmp_path)) == expected
    assert names(List(test=None)(samples, tmp_path)) == expected | {"test": []}


def test_invalid_lists_raise_an_error(tmp_path):
    samples = make(["a", "b"], tmp_path)
    with pytest.raises(DataError, match=r"train\.txt cannot be read"):
        List()(samples, tmp_path)
    write(tmp_path, train="a\nmissing", val="b", test="")
    with pytest.raises(DataError, match=r"train\.txt names missing, but there is no such sample; one is named a"):
        List()(samples, tmp_path)
    write(tmp_path, train="a\nb", val="b")
    with pytest.raises(DataError, match="b would be in the train and in the val split"):
        List()(samples, tmp_path)
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"val\.txt cannot be read \(it is not UTF-8"):
        List()(samples, tmp_path)


@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 9), st.randoms())
def test_each_sample_is_validated_in_one_fold_and_the_test_split_is_the_same_in_all(count, folds, seed, rng):
    ordered = [f"scene_{i}" for i in range(count + 8)]
    found = []
    for fold in range(folds):
        rng.shuffle(ordered)
        found.append(names(Random(0.5, 0.1, seed, fold, folds)(make(ordered), ROOT)))
    assert len({tuple(sorted(f["test"])) for f in found}) == 1
    assert sorted(chain(found[0]["test"], *(f["val"] for f in found))) == sorted(ordered)
    sizes = [len(f["val"]) for f in found]
    assert max(sizes) - min(sizes) <= 1
    assert all(sorted(chain(*f.values())) == sorted(ordered) for f in found)


def test_folds_of_groups_are_balanced_by_images_and_keep_listed_test_groups():
    tiles = [f"Tile {t}/part_{p}" for t in range(12) for p in range(1 + 5 * (t % 3))]
    sizes = []
    for fold in range(3):
        splits = names(Group(r"Tile (\d+)", 0.2, ["0"], 0, fold, 3)(make(tiles), ROOT))
        assert splits["test"] == ["Tile 0/part_0"]
        assert not {n.split("/")[0] for n in splits["val"]} & {n.split("/")[0] for n in splits["train"]}
        sizes.append(len(splits["val"]))
    assert sum(sizes) == len(tiles) - 1 and max(sizes) - min(sizes) <= 5


@pytest.mark.parametrize("kind", [Subfolder, List])
def test_folds_of_a_published_split_divide_its_training_and_validation_samples(kind, tmp_path):
    published = {split: [f"{split}/{i}" for i in range(n)] for split, n in (("train", 8), ("val", 2), ("test", 3))}
    samples = make(list(chain(*published.values())), tmp_path)
    write(tmp_path, **{split: "\n".join(listed) for split, listed in published.items()})
    assert names(kind()(samples, tmp_path)) == published
    found = [names(kind(fold=fold)(samples, tmp_path)) for fold in range(5)]
    assert all(f["test"] == published["test"] and len(f["train"]) == 8 for f in found)
    assert sorted(chain(*(f["val"] for f in found))) == sorted(published["train"] + published["val"])
    with pytest.raises(ConfigError, match=r"dataset\.split\.fold=5: expected null or 0 to 4"):
        kind(fold=5)(samples, tmp_path)


@pytest.mark.parametrize("kind", [Random, Stratified])
def test_invalid_folds_raise_an_error(kind):
    with pytest.raises(ConfigError, match=r"dataset\.split\.fold=5: expected null or 0 to 4"):
        kind(fold=5)
    with pytest.raises(ConfigError, match=r"dataset\.split\.folds=1"):
        kind(folds=1)
    with pytest.raises(ConfigError, match="only 3 units"):
        Random(0.1, 0, fold=0)(make(["a", "b", "c"]), ROOT)


def class_pixels(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return pixels per class of each image: two common classes, and a rare one in every ninth image."""
    random = np.random.default_rng(seed)
    common = random.integers(0, 1000, count)
    rare = np.where(np.arange(count) % 9 == 0, random.integers(20, 60, count), 0)
    counts = np.stack([common, 1000 - common, rare], 1)
    return {f"scene_{i}": row for i, row in enumerate(counts)}


def shares(splits: dict[str, list[Sample]], counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    sums = {split: np.sum([counts[s.name] for s in samples], axis=0) for split, samples in splits.items()}
    return {split: found / found.sum() for split, found in sums.items()}


@given(st.integers(0, 20), st.randoms())
def test_a_stratified_split_has_similar_class_shares_and_does_not_depend_on_the_order(seed, rng):
    counts = class_pixels(63)
    ordered = list(counts)
    splits = Stratified(0.2, 0.2, seed)(make(ordered), ROOT, lambda s: counts[s.name])
    assert [len(splits[s]) for s in ("train", "val", "test")] == pytest.approx([38, 12.5, 12.5], abs=2.5)
    overall = sum(counts.values()) / np.sum(list(counts.values()))
    for found in shares(splits, counts).values():
        assert np.abs(found - overall)[:2].max() < 0.03 and 0.5 < found[2] / overall[2] < 1.7
    rng.shuffle(ordered)
    again = Stratified(0.2, 0.2, seed)(make(ordered), ROOT, lambda s: counts[s.name])
    assert {k: sorted(v) for k, v in names(again).items()} == {k: sorted(v) for k, v in names(splits).items()}


def test_stratified_splits_are_closer_to_the_overall_class_shares_than_random_ones():
    def distance(split: object, seed: int, *extra: object) -> float:
        found = shares(split(0.15, 0.15, seed)(make(list(counts)), ROOT, *extra), counts)
        return max(np.abs(f / overall - 1).max() for f in found.values())

    counts = class_pixels(45)
    overall = sum(counts.values()) / np.sum(list(counts.values()))
    stratified = [distance(Stratified, seed, lambda s: counts[s.name]) for seed in range(10)]
    assert max(stratified) < np.median([distance(Random, seed) for seed in range(10)])


def test_each_sample_is_validated_in_one_stratified_fold():
    counts = class_pixels(40)
    found = [
        names(Stratified(0.3, 0.1, 0, fold, 4)(make(list(counts)), ROOT, lambda s: counts[s.name])) for fold in range(4)
    ]
    assert len({tuple(sorted(f["test"])) for f in found}) == 1
    assert sorted(chain(found[0]["test"], *(f["val"] for f in found))) == sorted(counts)
    assert all(7 <= len(f["val"]) <= 11 for f in found)


@pytest.mark.parametrize("choice", ["auto", "subfolder", "list", "group", "random", "stratified"])
def test_every_split_configuration_can_be_instantiated(root_dir, tmp_path, choice):
    config = OmegaConf.load(root_dir / f"conf/dataset/split/{choice}.yaml")
    if choice == "group":
        config.pattern = r"^\w+"
    split = instantiate(config)
    extra = [lambda sample: np.array([len(sample.name), 1])] if choice == "stratified" else []
    sample_names = [f"{folder}/{i}" for folder in ("train", "val", "test") for i in range(4)]
    write(tmp_path, **{s: "\n".join(n for n in sample_names if n.startswith(s)) for s in ("train", "val", "test")})
    samples = make(sample_names, tmp_path)
    splits = names(split(samples, tmp_path, *extra))
    random.Random(0).shuffle(samples)
    assert {k: sorted(v) for k, v in splits.items()} == {
        k: sorted(v) for k, v in names(split(samples, tmp_path, *extra)).items()
    }
    assert sorted(chain(*splits.values())) == sorted(sample_names)
