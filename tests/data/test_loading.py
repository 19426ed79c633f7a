"""Data loading: batches, the input spec and statistics, changed files and invalid datasets."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from satseg.data import SegmentationDataModule
from satseg.data import reader as reading
from satseg.data import statistics as measuring
from satseg.data.augmentation import Augmentation
from satseg.data.folder import FolderDataModule
from satseg.data.splits import Group, Splits
from satseg.errors import (
    BandError,
    ConfigError,
    DataChangedError,
    DataError,
    MaskValueError,
    SizeMismatchError,
)
from satseg.files import write_json
from satseg.models.network import Normaliser


def last_two_held_out(samples: Any, root: Path) -> Splits:
    ordered = sorted(samples, key=lambda s: s.name)
    return {"train": ordered[:-2], "val": ordered[-2:-1], "test": ordered[-1:]}


def write(path: Path, array: np.ndarray, **profile: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = array if array.ndim == 3 else array[None]
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as file:
        file.write(bands)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for i, (height, width) in enumerate([(70, 90), (40, 50), (64, 64), (64, 64), (33, 47)]):
        image = random.integers(1, 5000, (4, height, width), dtype=np.uint16)
        image[:, :5] = 0
        mask = random.integers(0, 3, (height, width), dtype=np.uint8)
        mask[-3:] = 9
        write(tmp_path / f"images/scene {i}.tif", image, nodata=0)
        write(tmp_path / f"masks/scene {i}.tif", mask)
    return tmp_path


def module(root: Path, **options: Any) -> SegmentationDataModule:
    classes = {"low": 0, "middle": 1, "high": 2}
    defaults: dict[str, Any] = {"classes": classes, "ignore_values": [9], "split": last_two_held_out, "num_workers": 0}
    result = FolderDataModule(
        root, **(defaults | {"patch_size": 32, "batch_size": 4, "patches_per_epoch": 8} | options)
    )
    result.setup()
    return result


def test_shapes_and_dtypes_of_a_training_batch(folder: Path) -> None:
    batch = next(iter(module(folder).train_dataloader()))
    assert batch["image"].shape == (4, 4, 32, 32) and batch["image"].dtype == torch.int32
    assert batch["mask"].shape == batch["valid"].shape == (4, 32, 32)
    assert batch["mask"].dtype == torch.uint8 and batch["valid"].dtype == torch.bool
    assert set(batch["mask"].unique().tolist()) <= {0, 1, 2, 255}
    assert (batch["image"].ne(0).any(1) == batch["valid"]).all()


def test_each_pass_is_a_new_epoch_and_does_not_depend_on_the_number_of_workers(folder: Path) -> None:
    epochs = {}
    for workers in (0, 2):
        loader = module(folder, num_workers=workers, augmentation=Augmentation(True, True)).train_dataloader()
        epochs[workers] = [[batch["image"] for batch in loader] for _ in range(2)]
    for in_process, in_workers in zip(epochs[0], epochs[2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(in_process, in_workers, strict=True))
    assert not torch.equal(epochs[0][0][0], epochs[0][1][0])


def test_photometric_augmentation_on_the_device_gives_the_same_batches(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strong = Augmentation(True, True, (0.5, 2.0), brightness=0.2, gamma=0.3, noise=0.04)

    def batches() -> list[torch.Tensor]:
        data = module(folder, augmentation=strong)
        loader = data.train_dataloader()
        return [data.on_after_batch_transfer(batch, 0)["image"] for batch in loader]

    on_cpu = batches()
    monkeypatch.setattr(SegmentationDataModule, "_defers_photometric", True)
    on_device = batches()
    raw = next(iter(module(folder, augmentation=strong).train_dataloader()))
    assert len(raw["seed"]) == 4 and not torch.equal(raw["image"], on_cpu[0])
    assert all((a - b).abs().max() <= 1 for a, b in zip(on_cpu, on_device, strict=True))  # of raw values up to 5,000


def test_evaluation_loads_each_whole_image_once(folder: Path) -> None:
    def all_val(samples: Any, root: Path) -> Splits:
        return {"train": list(samples)[:1], "val": sorted(samples, key=lambda s: s.name), "test": []}

    batches = list(module(folder, split=all_val).val_dataloader())
    assert [len(batch["name"]) for batch in batches] == [1] * 5
    assert [tuple(batch["mask"].shape[1:]) for batch in batches] == [(70, 90), (40, 50), (64, 64), (64, 64), (33, 47)]
    names = [name for batch in batches for name in batch["name"]]
    assert len(set(names)) == len(names) == 5


def test_the_statistics_of_the_spec_equal_those_of_numpy_on_valid_training_pixels(folder: Path) -> None:
    data = module(folder)
    pixels, classes = [], []
    for i in range(3):
        with (
            rasterio.open(folder / f"images/scene {i}.tif") as image,
            rasterio.open(folder / f"masks/scene {i}.tif") as m,
        ):
            valid = image.dataset_mask() > 0
            pixels.append(image.read()[:, valid].astype(float))
            classes.append(m.read(1)[valid])
    values, source = np.concatenate(pixels, 1), data.spec.inputs[0]
    assert source.statistics is not None and source.dtype == "uint16" and source.nodata == 0
    assert np.allclose(source.statistics.mean, values.mean(1)) and np.allclose(source.statistics.std, values.std(1))
    assert np.allclose(source.statistics.p98, np.percentile(values, 98, axis=1), rtol=0.01)
    assert np.allclose(np.array(source.mean) * source.scale + source.offset, values.mean(1))
    counts = np.bincount(np.concatenate(classes), minlength=10)[:3]
    assert (data.class_counts == counts).all()


def test_large_images_that_are_scored_whole_are_reported(tmp_path: Path) -> None:
    for i, size in enumerate((64, 64, 9000)):
        for kind in ("images", "masks"):
            path = tmp_path / kind / f"{i}.tif"
            path.parent.mkdir(exist_ok=True)
            with rasterio.open(
                path, "w", count=1, width=size, height=size, dtype="uint8", tiled=True, sparse_ok=True
            ) as file:
                file.write(np.ones((1, 8, 8), np.uint8), window=rasterio.windows.Window(0, 0, 8, 8))
    note = "2 is scored whole, in about 972 MB of memory (dataset/split=blocks cuts large images)"
    for split, expected in ((last_two_held_out, True), (Group(".*", val=["0"], test=["1"]), False)):
        data = FolderDataModule(tmp_path, split=split, classes=["a", "b"])
        data.setup()
        assert (note in data.assumptions) == expected


def test_balanced_class_weights_are_inverse_square_roots_of_counts(folder: Path) -> None:
    data = module(folder)
    assert data.class_weights("none") is None
    balanced = data.class_weights("balanced")
    assert balanced is not None
    expected = 1 / np.sqrt(data.class_counts)
    assert np.allclose(balanced.numpy(), expected / expected.mean())
    for wrong in ([1.0, 2.0], ["a", "b", "c"], "heavy"):
        with pytest.raises(ConfigError, match="3 numbers for low, middle, high"):
            data.class_weights(wrong)


def test_the_fingerprint_depends_on_files_and_split(folder: Path) -> None:
    first = module(folder).fingerprint
    assert module(folder).fingerprint == first
    other = module(folder, split=lambda samples, root: last_two_held_out(list(samples)[::-1], root) | {"test": []})
    assert other.fingerprint != first
    write(folder / "masks/scene 0.tif", np.ones((70, 90), np.uint8))
    assert module(folder).fingerprint != first


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_file_that_changes_during_a_run_raises_an_error_that_names_it(
    folder: Path, kind: str, num_workers: int
) -> None:
    data = module(folder, cache_gb=0, num_workers=num_workers)
    (sample,) = data.samples_of("val")
    path = folder / kind / f"{sample.name}.tif"
    before = path.read_bytes()
    write_json(folder / "data.json", {"digests": data.digests()})

    def read() -> Any:
        (batch,) = data.eval_dataloader("val")
        return data.on_after_batch_transfer(batch, 0)["image"]

    whole = read()
    with rasterio.open(path) as file:
        changed = file.read() + 1
    for change, message in (
        (lambda: path.unlink(), "is no longer there: put it back."),
        (lambda: write(path, changed), "has changed since it was first read"),
        (lambda: path.write_bytes(before[: len(before) // 2]), "has changed since it was first read"),
    ):
        change()
        with pytest.raises(DataChangedError, match=f"{path} {message}"):
            read()
    path.write_bytes(before)  # the same content with another modification time
    with pytest.raises(DataChangedError):
        read()
    data.use_digests(folder / "data.json")
    assert torch.equal(read(), whole)
    path.write_bytes(bytes(before[:-1]) + bytes([before[-1] ^ 1]))
    with pytest.raises(DataChangedError):
        read()


def test_selected_bands_are_loaded_in_the_given_order(folder: Path) -> None:
    data = module(folder, bands=[3, 1])
    batch = next(iter(data.val_dataloader()))
    with rasterio.open(folder / "images" / f"{Path(batch['name'][0]).name.removesuffix('.tif')}.tif") as file:
        assert (batch["image"][0].numpy() == file.read([3, 1])).all()
    assert len(data.spec.inputs[0].bands) == 2


def write_named_bands(root: Path, order: list[list[str]], dtype: str = "uint16") -> dict[str, float]:
    """Write images with named bands in varying order; a band is constant, and 10 higher in the right half."""
    values = {"B2": 100, "B3": 200, "B4": 300, "B8": 50}
    for i, names in enumerate(order):
        image = np.stack([np.full((40, 50), values[n]) for n in names]).astype(dtype)
        image[:, :, 25:] += 10
        path = root / f"images/{i}.tif"
        write(path, image)
        with rasterio.open(path, "r+") as file:
            for number, name in enumerate(names, 1):
                file.set_band_description(number, name)
        write(root / f"masks/{i}.tif", np.tile(np.arange(50, dtype=np.uint8) % 3, (40, 1)))
    return values


def test_bands_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    write_named_bands(tmp_path, [["B2", "B3", "B4", "B8"], ["B8", "B4", "B2"], ["B4", "B2", "B8"], ["B3", "B8", "B4"]])
    data = module(tmp_path, bands=["B8", "B4"])
    assert data.spec.inputs[0].bands == ("B8", "B4")
    for batch in (*data.train_dataloader(), *data.val_dataloader(), *data.eval_dataloader("test")):
        assert {tuple(p) for p in batch["image"].permute(0, 2, 3, 1)[batch["valid"]].tolist()} <= {(50, 300), (60, 310)}
    assert module(tmp_path, bands=["B8", 1], split=lambda s, r: last_two_held_out(s[:3], r)).spec.inputs[0].bands == (
        "B8",
        "B2",
    )
    with pytest.raises(BandError, match=r"1\.tif has no bands named B3, only B8, B4, B2; set dataset\.bands"):
        module(tmp_path, bands=["B3"])


def test_normalisation_uses_statistics_of_the_training_split_stored_in_the_spec(tmp_path: Path) -> None:
    write_named_bands(tmp_path, [["B2", "B8"]] * 5)
    image = next(iter(module(tmp_path).val_dataloader()))["image"]
    spans = {"scale": None, "standardise": [(105, 5), (55, 5)], "percentile": [(100, 10), (50, 10)]}
    for kind, span in spans.items():
        source = module(tmp_path, normalisation=kind, scale=200, offset=20).spec.inputs[0]
        assert (source.scale, source.offset) == (200, 20)
        found = Normaliser(source)(image)[0].numpy()
        for band, (zero, one) in enumerate(span or [(20, 200)] * 2):
            assert np.allclose(found[band], (image[0, band].numpy() - zero) / one, atol=1e-5)
    automatic = module(tmp_path).spec.inputs[0]
    assert automatic.offset == 0 and automatic.scale == 110 and module(tmp_path, offset=50).spec.inputs[0].scale == 60


def test_nodata_and_nan_are_left_out_of_statistics(tmp_path: Path) -> None:
    for i in range(4):
        image = np.full((2, 40, 40), 3.0, np.float32)
        image[:, :20, ::2] = 5.0
        image[0, 30:] = np.nan
        image[:, 25:30] = -9999
        write(tmp_path / f"images/{i}.tif", image, nodata=-9999)
        write(tmp_path / f"masks/{i}.tif", np.tile(np.arange(40, dtype=np.uint8) % 3, (40, 1)))
    data = module(tmp_path)
    statistics = data.spec.inputs[0].statistics
    assert statistics is not None
    assert statistics.minimum == (3, 3) and statistics.maximum == (5, 5) and np.allclose(statistics.mean, 3 + 2 * 0.4)
    assert data.class_counts.sum() == 25 * 40 * len(data.splits["train"])


def test_statistics_do_not_depend_on_the_tile_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, counts = module(folder).spec.inputs[0].statistics, module(folder).class_counts
    monkeypatch.setattr(measuring, "TILE", 20)
    monkeypatch.setattr(reading, "WHOLE_FILE_PIXELS", 1000)
    tiled = module(folder)
    assert whole is not None and tiled.spec.inputs[0].statistics is not None
    for one, other in zip(asdict(whole).values(), asdict(tiled.spec.inputs[0].statistics).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    assert (tiled.class_counts == counts).all()


def test_a_mask_value_outside_the_classes_raises_an_error_with_file_value_and_classes(folder: Path) -> None:
    mask = np.zeros((70, 90), np.uint8)
    mask[3, 3] = 7
    write(folder / "masks/scene 0.tif", mask)
    with pytest.raises(MaskValueError, match=r"scene 0\.tif.*7.*dataset\.classes") as caught:
        _ = module(folder).spec
    assert "low" in str(caught.value) or "3 classes" in str(caught.value)


def test_an_error_in_a_worker_keeps_its_type_and_message(folder: Path) -> None:
    data = module(folder, num_workers=1)
    _ = data.spec
    path = folder / "masks/scene 4.tif"
    path.write_bytes(path.read_bytes()[:300])
    batch = next(iter(data.eval_dataloader("test")))
    with pytest.raises(DataChangedError, match=r"scene 4\.tif has changed"):
        data.on_after_batch_transfer(batch, 0)


def test_differing_sizes_and_bands_and_missing_masks_raise_an_error_before_training(folder: Path) -> None:
    write(folder / "masks/scene 1.tif", np.zeros((40, 51), np.uint8))
    with pytest.raises(SizeMismatchError, match=r"50x40.*51x40"):
        module(folder)
    write(folder / "masks/scene 1.tif", np.zeros((40, 50), np.uint8))
    write(folder / "images/scene 1.tif", np.zeros((3, 40, 50), np.uint16))
    with pytest.raises(BandError, match="3 bands, but the images before it have 4"):
        module(folder)
    for path in (folder / "masks").iterdir():
        path.rename(path.with_name(f"other {path.name}"))
    with pytest.raises(DataError, match="no image has a mask"):
        module(folder)


def test_images_of_different_dtypes_raise_an_error(folder: Path) -> None:
    write(folder / "images/scene 1.tif", np.zeros((4, 40, 50), np.float32))
    with pytest.raises(DataError, match=r"scene 1\.tif is float32, but the images before it are uint16"):
        module(folder)


def test_an_alpha_band_is_left_out_and_reported_unless_it_is_requested(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"images/{i}.tif", np.full((4, 40, 40), 9, np.uint8), photometric="rgb", alpha="yes")
        write(tmp_path / f"masks/{i}.tif", np.tile(np.arange(40, dtype=np.uint8) % 3, (40, 1)))
    data = module(tmp_path)
    assert len(data.spec.inputs[0].bands) == 3 and any("band 4" in a and "[1, 2, 3, 4]" in a for a in data.assumptions)
    assert len(module(tmp_path, bands=[1, 2, 3, 4]).spec.inputs[0].bands) == 4
    with pytest.raises(BandError, match="no band 9, only 1 to 4"):
        module(tmp_path, bands=[1, 9])


def test_mask_values_ignored_by_class_discovery_are_reported(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"images/{i}.tif", np.full((3, 40, 40), 9, np.uint8))
        write(tmp_path / f"masks/{i}.tif", np.tile(np.array([0, 128, 255, 0], np.uint8), (40, 10)))
    assert any(
        "mask value 255 is no class" in a for a in module(tmp_path, classes=None, ignore_values=None).assumptions
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"bands": 3}, "dataset.bands=3: expected a list"),
        ({"patches_per_epoch": "abc"}, "dataset.patches_per_epoch=abc: expected a whole number"),
        ({"num_workers": -1}, "dataset.num_workers=-1: expected a whole number from 0"),
        ({"scale": 0}, "dataset.scale=0: expected auto, or a number above 0"),
        ({"offset": "x"}, "dataset.offset=x: expected auto, or a number"),
        ({"bands": ["B8", "B8"]}, "name each band once"),
        (
            {"normalisation": "none"},
            "dataset.normalisation=none: choose auto, backbone, scale, standardise, percentile",
        ),
    ],
)
def test_options_of_a_wrong_type_raise_an_error_that_names_them(
    folder: Path, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        module(folder, **option)


@pytest.mark.parametrize("name", ["patch_size", "batch_size"])
def test_sizes_must_be_positive(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"dataset.{name}=0"):
        module(folder, **{name: 0})


def test_an_image_smaller_than_a_patch_is_padded_with_ignored_pixels(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full((10, 12, 3), 200, np.uint8)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(np.ones((10, 12), np.uint8)).save(tmp_path / f"masks/{i}.png")
    data = module(tmp_path, classes={"no": 0, "yes": 1}, ignore_values=None)
    for batch in data.train_dataloader():
        assert (batch["valid"].sum((1, 2)) == 120).all()
        assert ((batch["mask"] == 1) == batch["valid"]).all() and (batch["mask"][~batch["valid"]] == 255).all()
