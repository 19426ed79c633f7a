"""Faults in files, headers and images: each is found with its file, without false findings."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from dataset_faults import add_value_nine, check, finding_of, problems, remove, rewrite, truncate, unchanged
from dataset_files import SIZE, make_image, make_mask, read, write
from PIL import Image

from satseg.data.splits import Random
from satseg.validate.findings import Severity


def test_a_valid_dataset_has_no_problems(sound):
    validation = check(sound)
    assert validation.is_sound and problems(validation) == []
    assert finding_of(validation, "ignored_values").message == "ignored mask values: 255 100 px (0.11 %)"
    assert {split: totals.images for split, totals in validation.totals.items()} == {"train": 6, "val": 2, "test": 2}
    masks = np.concatenate([read(p).ravel() for p in (sound / "train/masks").iterdir()])
    assert validation.totals["train"].class_pixels.tolist() == [np.count_nonzero(masks == c) for c in range(3)]
    strong = validation.bands[3]
    assert 0.85 < strong.score < 0.97  # strong, but below the threshold


def mostly_ignored(mask: np.ndarray) -> np.ndarray:
    mask[0, 20:] = 255
    return mask


def coarser(root: Path) -> None:
    for kind in ("images", "masks"):
        rewrite(f"val/{kind}/7.tif", unchanged, pixel=20.0)(root)


def as_floats(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32)


FAULTS = [
    ("image_without_mask", remove("train/masks/3.tif"), ["train/images/3.tif"]),
    ("mask_without_image", remove("val/images/7.tif"), ["val/masks/7.tif"]),
    ("unreadable", truncate("train/images/1.tif", 0.6), ["train/images/1.tif"]),
    ("unreadable", truncate("train/images/1.tif", 0), ["train/images/1.tif"]),
    ("unreadable", truncate("test/masks/9.tif", 0.5), ["test/masks/9.tif"]),
    ("size", rewrite("train/masks/2.tif", lambda m: m[:, 1:], crs=None), ["train/images/2.tif", "train/masks/2.tif"]),
    ("bands", rewrite("train/images/2.tif", lambda i: i[:3]), ["train/images/2.tif"]),
    ("dtype", rewrite("train/images/2.tif", lambda i: i.astype(np.int32)), ["train/images/2.tif"]),
    ("pixel_size", coarser, ["val/images/7.tif"]),
    ("crs", rewrite("train/masks/4.tif", unchanged, crs="EPSG:32632"), ["train/masks/4.tif"]),
    ("geotransform", rewrite("train/masks/4.tif", unchanged, east=4 * 10 * SIZE + 3), ["train/masks/4.tif"]),
    ("mask_values", rewrite("train/masks/4.tif", add_value_nine), ["train/masks/4.tif"]),
    ("ignored_pixels", rewrite("train/masks/4.tif", mostly_ignored), ["train/masks/4.tif"]),
    ("all_nodata", rewrite("train/images/4.tif", np.zeros_like, nodata=0), ["train/images/4.tif"]),
    ("constant", rewrite("train/images/4.tif", lambda i: np.full_like(i, 7)), ["train/images/4.tif"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "files"), FAULTS, ids=[f"{i}_{f[0]}" for i, f in enumerate(FAULTS)])
def test_a_fault_is_found_with_its_file(sound, name, change, files):
    change(sound)
    validation = check(sound)
    finding = finding_of(validation, name)
    assert not validation.is_sound
    assert finding.severity > Severity.NOTE and finding.expected and finding.repair
    assert list(finding.files) == files
    assert problems(validation) == [name]  # no other finding


def test_simultaneous_faults_are_all_found(sound):
    changes = [FAULTS[i] for i in (0, 1, 2)] + [
        ("mask_values", rewrite("train/masks/4.tif", add_value_nine), ["train/masks/4.tif"]),
        ("constant", rewrite("train/images/5.tif", lambda i: np.full_like(i, 7)), ["train/images/5.tif"]),
        ("size", rewrite("test/masks/8.tif", lambda m: m[:, 1:], crs=None), ["test/images/8.tif", "test/masks/8.tif"]),
    ]
    for _, change, _ in changes:
        change(sound)
    validation = check(sound)
    assert {f.check: list(f.files) for f in validation.findings if f.severity == Severity.ERROR} == {
        name: files for name, _, files in changes
    }


def test_findings_state_counts_and_values(sound):
    rewrite("train/masks/4.tif", add_value_nine)(sound)
    assert "600 pixels of 1 value outside the classes: 9 (600 px)" in finding_of(check(sound), "mask_values").message


def test_a_mask_without_crs_is_a_note(sound):
    for path in sound.glob("*/masks/*"):
        write(path, read(path), crs=None)
    validation = check(sound)
    assert validation.is_sound
    assert finding_of(validation, "mask_without_crs").severity == Severity.NOTE


@pytest.mark.parametrize(("number", "check_name"), [(np.nan, "nan"), (np.inf, "infinite")])
def test_nan_and_infinite_values_are_reported(sound, number, check_name):
    for path in sound.glob("*/images/*"):
        rewrite(path.relative_to(sound).as_posix(), as_floats)(sound)

    def set_number(image: np.ndarray) -> np.ndarray:
        image[1, :10, :10] = number
        return image

    rewrite("train/images/3.tif", set_number)(sound)
    validation = check(sound)
    assert list(finding_of(validation, check_name).files) == ["train/images/3.tif"]
    assert validation.is_sound == (check_name == "nan")  # NaN is a form of nodata
    rewrite("train/images/3.tif", lambda image: np.full_like(image, number))(sound)
    assert list(finding_of(check(sound), "all_nodata").files) == ["train/images/3.tif"]


def test_truncated_photographs_are_unreadable_rather_than_grey(tmp_path):
    for kind, end in (("images", "jpg"), ("masks", "png")):
        for split in ("train", "val"):
            for i in range(2):
                path = tmp_path / split / kind / f"{i}.{end}"
                path.parent.mkdir(parents=True, exist_ok=True)
                seed = i + 10 * (split == "val")
                array = make_mask(seed) if kind == "masks" else make_image(seed, make_mask(seed))[:3] // 20
                Image.fromarray((array if kind == "masks" else np.moveaxis(array, 0, -1)).astype(np.uint8)).save(path)
    assert check(tmp_path).is_sound
    truncate("train/images/1.jpg", 0.7)(tmp_path)
    truncate("val/masks/0.png", 0.7)(tmp_path)
    files = [file for f in check(tmp_path).findings if f.check == "unreadable" for file in f.files]
    assert sorted(files) == ["train/images/1.jpg", "val/masks/0.png"]


def test_the_corrupt_one_of_separate_band_files_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        mask = make_mask(number)
        for band, array in enumerate(make_image(number, mask)):
            write(tmp_path / f"images/{number}_B{band}.tif", array[None], east=number * 1000)
        write(tmp_path / f"masks/{number}.tif", mask[None], east=number * 1000)
    options = {"images": {f"B{b}": f"images/*_B{b}.tif" for b in range(4)}, "masks": "masks/*"}
    options |= {"split": Random(val=0.25, test=0.25)}
    assert check(tmp_path, **options).is_sound
    truncate("images/2_B1.tif", 0.6)(tmp_path)
    validation = check(tmp_path, **options)
    assert list(finding_of(validation, "unreadable").files) == ["images/2_B1.tif"]
    assert [band.name for band in validation.bands] == ["B0", "B1", "B2", "B3"]


def test_a_stack_without_a_mask_is_reported_and_can_be_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        mask = make_mask(number)
        for band, array in enumerate(make_image(number, mask)[:2]):
            write(tmp_path / f"images/{number}_B{band}.tif", array[None], east=number * 10 * SIZE)
        if number:
            write(tmp_path / f"masks/{number}.tif", mask[None], east=number * 10 * SIZE)
    options = {"images": {f"B{b}": f"images/*_B{b}.tif" for b in range(2)}, "masks": "masks/*.tif"}
    options |= {"split": Random(0.3, 0)}
    validation = check(tmp_path, **options)
    assert finding_of(validation, "image_without_mask").files == ("images/0_B0.tif",)
    assert sum(map(len, validation.splits.values())) == 3
    assert "image_without_mask" not in problems(check(tmp_path, unpaired="leave_out", **options))


@pytest.mark.parametrize(("scale", "is_sound"), [(10_000, True), (5000, True), (255, False), (1_000_000, False)])
def test_a_scale_that_does_not_fit_the_values_is_reported(sound, scale, is_sound):
    validation = check(sound, scale=scale)
    assert validation.is_sound == is_sound
    assert is_sound or f"dataset.scale={scale:g}" in finding_of(validation, "scale").message


def test_bands_in_another_order_are_reported_unless_selected_by_name(sound):
    names = ["blue", "green", "red", "nir"]
    for path in sorted(sound.glob("*/images/*.tif")):
        reordered = int(path.stem) == 3
        image = read(path)[::-1] if reordered else read(path)
        write(path, image, east=int(path.stem) * 10 * SIZE)
        with rasterio.open(path, "r+") as file:
            file.descriptions = tuple(names[::-1] if reordered else names)
    for bands in (None, [1, 2]):
        finding = finding_of(check(sound, bands=bands), "band_order")
        assert finding.files == ("train/images/3.tif",) and "nir, red, green, blue" in finding.message
    assert "band_order" not in problems(check(sound, bands=["red", "green"]))


def test_images_in_no_split_are_reported(sound):
    (sound / "test").rename(sound / "Test")
    finding = finding_of(check(sound), "in_no_split")
    assert (finding.severity, finding.message) == (Severity.NOTE, "2 images in no split")
    assert sorted(finding.files) == ["Test/images/8.tif", "Test/images/9.tif"]


def test_complex_images_are_reported_as_unreadable(sound):
    rewrite("train/images/1.tif", lambda image: image.astype(np.complex64))(sound)
    validation = check(sound)
    assert finding_of(validation, "unreadable").files == ("train/images/1.tif",)
    assert "complex numbers" in finding_of(validation, "unreadable").message
