"""Every fault is found in a set that has it, with its file; and nothing in its sound twin."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from commands import command, refused
from PIL import Image
from rasterio.warp import transform
from scipy.ndimage import gaussian_filter, zoom
from validation.conftest import CLASSES, SIZE, make_image, make_mask, read, write

from satseg.data import FolderDataModule
from satseg.data.splits import Fractions, Subfolder
from satseg.errors import ConfigError, DataError
from satseg.validation import Finding, Limits, Severity, Validation, validate
from satseg.validation.write import write_validation


def check(root: Path, limits: Limits | None = None, **options: Any) -> Validation:
    given = {"images": "*/images/*", "masks": "*/masks/*", "classes": CLASSES, "split": Subfolder()} | options
    return validate(FolderDataModule(root, **given), limits, workers=1, progress=False)


def found(validation: Validation, name: str) -> Finding:
    """Return the one finding of a check."""
    (finding,) = [f for f in validation.findings if f.check == name]
    return finding


def grave(validation: Validation) -> list[str]:
    return [f.check for f in validation.findings if f.severity > Severity.NOTE]


def test_a_sound_dataset_is_sound(sound):
    validation = check(sound)
    assert validation.is_sound and grave(validation) == []
    assert found(validation, "ignored_values").message == "ignored mask values: 255 100 px (0.11 %)"
    assert {split: totals.images for split, totals in validation.totals.items()} == {"train": 6, "val": 2, "test": 2}
    masks = np.concatenate([read(p).ravel() for p in (sound / "train/masks").iterdir()])
    assert validation.totals["train"].class_pixels.tolist() == [np.count_nonzero(masks == c) for c in range(3)]
    strong = validation.bands[3]
    assert 0.85 < strong.score < 0.97  # it is a hard twin


Change = Callable[[Path], None]


def remove(name: str) -> Change:
    return lambda root: (root / name).unlink()


def cut(name: str, to: float) -> Change:
    def change(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * to)])

    return change


def rewrite(name: str, function: Callable[[np.ndarray], np.ndarray], **profile: Any) -> Change:
    """Change a file's numbers; its place stays, unless another is given."""

    def change(root: Path) -> None:
        number = int(Path(name).stem)
        write(root / name, function(read(root / name)), **{"east": number * 10 * SIZE} | profile)

    return change


def same(array: np.ndarray) -> np.ndarray:
    return array


def value_nine(mask: np.ndarray) -> np.ndarray:
    mask[0, 30:50, 30:60] = 9
    return mask


def mostly_ignored(mask: np.ndarray) -> np.ndarray:
    mask[0, 20:] = 255
    return mask


def without_class_two(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == 2, 0, mask).astype(np.uint8)


def coarser(root: Path) -> None:
    for kind in ("images", "masks"):
        rewrite(f"val/{kind}/7.tif", same, pixel=20.0)(root)


def as_floats(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32)


FAULTS = [
    ("image_without_mask", remove("train/masks/3.tif"), ["train/images/3.tif"]),
    ("mask_without_image", remove("val/images/7.tif"), ["val/masks/7.tif"]),
    ("unreadable", cut("train/images/1.tif", 0.6), ["train/images/1.tif"]),
    ("unreadable", cut("train/images/1.tif", 0), ["train/images/1.tif"]),
    ("unreadable", cut("test/masks/9.tif", 0.5), ["test/masks/9.tif"]),
    ("size", rewrite("train/masks/2.tif", lambda m: m[:, 1:]), ["train/images/2.tif", "train/masks/2.tif"]),
    ("bands", rewrite("train/images/2.tif", lambda i: i[:3]), ["train/images/2.tif"]),
    ("dtype", rewrite("train/images/2.tif", lambda i: i.astype(np.int32)), ["train/images/2.tif"]),
    ("pixel_size", coarser, ["val/images/7.tif"]),
    ("crs", rewrite("train/masks/4.tif", same, crs="EPSG:32632"), ["train/masks/4.tif"]),
    ("geotransform", rewrite("train/masks/4.tif", same, east=4 * 10 * SIZE + 3), ["train/masks/4.tif"]),
    ("mask_values", rewrite("train/masks/4.tif", value_nine), ["train/masks/4.tif"]),
    ("ignored_pixels", rewrite("train/masks/4.tif", mostly_ignored), ["train/masks/4.tif"]),
    ("all_nodata", rewrite("train/images/4.tif", np.zeros_like, nodata=0), ["train/images/4.tif"]),
    ("constant", rewrite("train/images/4.tif", lambda i: np.full_like(i, 7)), ["train/images/4.tif"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "files"), FAULTS, ids=[f"{i}_{f[0]}" for i, f in enumerate(FAULTS)])
def test_a_fault_is_found_with_its_file(sound, name, change, files):
    change(sound)
    validation = check(sound)
    finding = found(validation, name)
    assert not validation.is_sound
    assert finding.severity > Severity.NOTE and finding.expected and finding.repair
    assert list(finding.files) == files
    assert grave(validation) == [name]  # and nothing else


def test_all_faults_at_once_are_all_found(sound):
    changes = [FAULTS[i] for i in (0, 1, 2)] + [
        ("mask_values", rewrite("train/masks/4.tif", value_nine), ["train/masks/4.tif"]),
        ("constant", rewrite("train/images/5.tif", lambda i: np.full_like(i, 7)), ["train/images/5.tif"]),
        ("size", rewrite("test/masks/8.tif", lambda m: m[:, 1:]), ["test/images/8.tif", "test/masks/8.tif"]),
    ]
    for _, change, _ in changes:
        change(sound)
    validation = check(sound)
    assert {f.check: list(f.files) for f in validation.findings if f.severity == Severity.ERROR} == {
        name: files for name, _, files in changes
    }


def test_numbers_and_examples_are_told(sound):
    rewrite("train/masks/4.tif", value_nine)(sound)
    assert "600 pixels of 1 value outside the classes: 9 (600 px)" in found(check(sound), "mask_values").message


def test_a_mask_without_crs_is_a_note(sound):
    for path in sound.glob("*/masks/*"):
        write(path, read(path), crs=None)
    validation = check(sound)
    assert validation.is_sound
    assert found(validation, "mask_without_crs").severity == Severity.NOTE


@pytest.mark.parametrize(("number", "check_name"), [(np.nan, "nan"), (np.inf, "infinite")])
def test_numbers_that_are_not_finite_are_told(sound, number, check_name):
    for path in sound.glob("*/images/*"):
        rewrite(path.relative_to(sound).as_posix(), as_floats)(sound)

    def spoil(image: np.ndarray) -> np.ndarray:
        image[1, :10, :10] = number
        return image

    rewrite("train/images/3.tif", spoil)(sound)
    validation = check(sound)
    assert list(found(validation, check_name).files) == ["train/images/3.tif"]
    assert validation.is_sound == (check_name == "nan")  # NaN is a way to say nodata
    rewrite("train/images/3.tif", lambda image: np.full_like(image, number))(sound)
    assert list(found(check(sound), "all_nodata").files) == ["train/images/3.tif"]


def test_a_truncated_photograph_is_no_grey_one(tmp_path):
    for kind, end in (("images", "jpg"), ("masks", "png")):
        for split in ("train", "val"):
            for i in range(2):
                path = tmp_path / split / kind / f"{i}.{end}"
                path.parent.mkdir(parents=True, exist_ok=True)
                seed = i + 10 * (split == "val")
                array = make_mask(seed) if kind == "masks" else make_image(seed, make_mask(seed))[:3] // 20
                Image.fromarray((array if kind == "masks" else np.moveaxis(array, 0, -1)).astype(np.uint8)).save(path)
    assert check(tmp_path).is_sound
    cut("train/images/1.jpg", 0.7)(tmp_path)
    cut("val/masks/0.png", 0.7)(tmp_path)
    files = [file for f in check(tmp_path).findings if f.check == "unreadable" for file in f.files]
    assert sorted(files) == ["train/images/1.jpg", "val/masks/0.png"]


COLOURS = np.array([[132, 41, 246], [226, 169, 41], [60, 16, 152]], np.uint8)
BY_COLOUR = {name: COLOURS[i].tolist() for name, i in CLASSES.items()}


def colour_masks(root: Path, save: Callable[[Image.Image, Path], None], number: int) -> None:
    """Make all masks colour-coded PNGs, and so many of the training split in another way."""
    for path in sorted(root.glob("*/masks/*.tif")):
        mask = read(path)[0]
        picture = Image.fromarray(COLOURS[np.where(mask > 2, 0, mask)])
        chosen = path.parts[-3] == "train" and int(path.stem) < number
        save(picture, path.with_suffix("")) if chosen else picture.save(path.with_suffix(".png"))
        path.unlink()


def antialiased(picture: Image.Image, path: Path) -> None:
    smaller = picture.resize((SIZE * 3 // 4, SIZE * 3 // 4), Image.Resampling.NEAREST)
    smaller.resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(path.with_suffix(".png"))


def jpeg(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".jpg"), quality=85)


def once_jpeg(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".jpeg"), quality=95, subsampling=0)
    Image.open(path.with_suffix(".jpeg")).save(path.with_suffix(".png"))
    path.with_suffix(".jpeg").unlink()


@pytest.mark.parametrize(
    ("name", "save", "repair"),
    [
        ("antialiased_mask", antialiased, "nearest neighbour"),
        ("jpeg_mask", jpeg, "PNG"),
        ("jpeg_mask", once_jpeg, "PNG"),
    ],
)
def test_spoiled_masks_are_named_as_what_they_are(sound, name, save, repair):
    colour_masks(sound, save, 2)
    validation = check(sound, classes=BY_COLOUR)
    finding = found(validation, name)
    assert sorted(Path(f).stem for f in finding.files) == ["0", "1"]
    assert repair in finding.repair and "(" in finding.message
    assert grave(validation) == [name]


def test_spoiled_masks_are_found_without_given_classes(sound):
    colour_masks(sound, antialiased, 6)
    validation = check(sound, classes=None)
    assert set(grave(validation)) == {"guessed_classes", "antialiased_mask"}
    assert set(validation.scheme.values) == {r << 16 | g << 8 | b for r, g, b in COLOURS.tolist()}


def test_soft_grey_masks_are_anti_aliased(sound):
    for path in sound.glob("*/masks/*"):
        mask = np.where(read(path)[0] == 1, 255, 0).astype(np.uint8)
        if path.stem in "01":
            mask = np.asarray(
                Image.fromarray(mask)
                .resize((48, 48), Image.Resampling.NEAREST)
                .resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            )
        write(path, mask[None], east=int(path.stem) * 10 * SIZE)
    validation = check(sound, classes={"land": 0, "water": 255})
    assert grave(validation) == ["antialiased_mask"]
    assert sorted(found(validation, "antialiased_mask").files) == ["train/masks/0.tif", "train/masks/1.tif"]


def test_a_class_that_a_split_lacks_or_hardly_has(sound):
    for number in (6, 7):
        rewrite(f"val/masks/{number}.tif", without_class_two)(sound)
    assert found(check(sound), "absent_class").message == "the val split has no pixel of forest"

    def hardly(mask: np.ndarray) -> np.ndarray:
        mask[0, 50, 50:55] = 2
        return mask

    rewrite("val/masks/6.tif", hardly)(sound)
    validation = check(sound)
    assert grave(validation) == ["rare_class"] and "forest (0.027 %)" in found(validation, "rare_class").message
    assert check(sound, Limits(min_class_share=0.0001)).is_sound


@pytest.mark.parametrize(("scale", "is_sound"), [(10_000, True), (5000, True), (255, False), (1_000_000, False)])
def test_a_scale_must_fit(sound, scale, is_sound):
    validation = check(sound, scale=scale)
    assert validation.is_sound == is_sound
    assert is_sound or f"dataset.scale={scale:g}" in found(validation, "scale").message


def test_copies_in_another_split(sound):
    (sound / "test/images/8.tif").write_bytes((sound / "train/images/0.tif").read_bytes())
    (sound / "test/masks/8.tif").write_bytes((sound / "train/masks/0.tif").read_bytes())
    validation = check(sound)
    assert list(found(validation, "duplicates").files) == ["train/images/0.tif", "test/images/8.tif"]
    assert set(grave(validation)) == {"duplicates", "overlap"}  # it lies at the same place, too


def test_what_is_nearly_the_same_in_another_split(sound):
    image = read(sound / "train/images/0.tif")
    noise = np.random.default_rng(5).normal(size=image.shape) * 20
    write(sound / "test/images/8.tif", (image * 1.1 + 50 + noise).astype(np.uint16), east=8 * 10 * SIZE)
    validation = check(sound)
    assert grave(validation) == ["near_duplicates"]
    assert list(found(validation, "near_duplicates").files) == ["train/images/0.tif", "test/images/8.tif"]


@pytest.mark.parametrize(("east", "name"), [(SIZE, "touching"), (SIZE // 2, "overlap"), (SIZE + 2, None)])
def test_neighbours_on_the_ground_in_different_splits(sound, east, name):
    for kind in ("images", "masks"):
        write(sound / f"test/{kind}/8.tif", read(sound / f"test/{kind}/8.tif"), east=east)
    validation = check(sound)
    assert grave(validation) == ([name] if name else [])
    if name:
        assert set(found(validation, name).files) == {"train/images/0.tif", "test/images/8.tif"}
        assert "dataset/split" in found(validation, name).repair


def test_neighbours_in_other_coordinates(sound):
    """A place is a place in any CRS: image 8 in the neighbouring zone lies on image 0."""
    (x,), (y,) = transform("EPSG:32633", "EPSG:32632", [500_000.0], [5_000_000.0])
    for kind in ("images", "masks"):
        path = sound / f"test/{kind}/8.tif"
        array = read(path)
        write(path, array, crs="EPSG:32632")
        with rasterio.open(path, "r+") as file:
            file.transform = rasterio.Affine(10, 0, x, 0, -10, y)
    validation = check(sound)
    assert grave(validation) == ["overlap"]
    assert set(found(validation, "overlap").files) == {"train/images/0.tif", "test/images/8.tif"}


def without_places(root: Path) -> None:
    """Cut one large scene into the images of all splits, without coordinates."""
    mask = make_mask(3, 5 * SIZE)
    image = make_image(3, mask, noise=15)[:3]
    for path in sorted(root.glob("*/*/*.tif")):
        row, column = divmod(int(path.stem), 5)
        rows, columns = (slice(i * SIZE, (i + 1) * SIZE) for i in (row, column))
        array = image[:, rows, columns] if path.parts[-2] == "images" else mask[None, rows, columns]
        write(path, array, crs=None)


def test_parts_of_one_scene_continue_each_other(sound):
    without_places(sound)
    validation = check(sound)
    finding = found(validation, "continuing_edges")
    assert grave(validation) == ["continuing_edges"]
    joints = {(5, 6), (7, 8), (1, 6), (2, 7), (3, 8), (4, 9)}  # between splits; two rows of five
    assert {Path(f).stem for f in finding.files} == {str(i) for pair in joints for i in pair}
    assert f"{len(joints)} pairs" in finding.message


def test_other_scenes_without_places_do_not(sound):
    for path in sorted(sound.glob("*/*/*.tif")):
        write(path, read(path), crs=None)
    assert check(sound).is_sound


def add_band(root: Path, make: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> None:
    for path in sorted(root.glob("*/images/*.tif")):
        mask, random = make_mask(int(path.stem)), np.random.default_rng(int(path.stem))
        band = make(mask, random).astype(np.uint16)
        write(path, np.concatenate([read(path), band[None]]), east=int(path.stem) * 10 * SIZE)


def label_with_noise(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return 1000 + 700.0 * mask + random.normal(size=mask.shape) * 100


def land_cover(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    areas = zoom(random.integers(0, 7, (8, 8)), SIZE // 8, order=0)
    return np.array([10, 20, 30, 40, 50, 60, 80])[areas]


def quality(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return gaussian_filter(random.normal(size=mask.shape), 5) > 0.02


def faint(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A measurement of a narrow range, resampled from coarser pixels, as Sentinel-2's cirrus band."""
    coarse = gaussian_filter(random.normal(size=(16, 16)), 1.5) * 8 + random.normal(size=(16, 16)) * 0.5
    return zoom(np.rint(coarse + 20), 6, order=0)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (label_with_noise, "giveaway_band"),
        (lambda mask, random: mask, "giveaway_band"),
        (land_cover, "categorical_band"),
        (quality, "categorical_band"),
        (faint, None),
    ],
)
def test_bands_that_are_no_measurement(sound, make, name):
    add_band(sound, make)
    validation = check(sound)
    assert grave(validation) == ([name] if name else [])
    assert name is None or "band_5" in found(validation, name).message
    assert check(sound, bands=[1, 2, 3, 4]).is_sound  # training does not read it


def test_the_threshold_of_a_giveaway_is_stated_and_can_be_set(sound):
    message = found(check(sound, Limits(giveaway=0.8)), "giveaway_band").message
    assert "band_4" in message and "threshold 0.8" in message
    with pytest.raises(ConfigError, match=r"giveaway=3.*from 0 to 1"):
        Limits(giveaway=3)


def test_a_dataset_of_one_image_has_no_split_but_is_checked(tmp_path):
    mask = make_mask(0)
    write(tmp_path / "images/a.tif", make_image(0, mask))
    write(tmp_path / "masks/a.tif", value_nine(mask[None]))
    validation = check(tmp_path, images="images/*", masks="masks/*", split=Fractions())
    assert set(grave(validation)) == {"split", "mask_values"}
    assert "train split is empty" in found(validation, "split").message


def test_what_cannot_be_opened_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        check(tmp_path / "none")
    write(tmp_path / "train/images/a.tif", make_image(0, make_mask(0)))
    with pytest.raises(DataError, match="no mask matches"):
        check(tmp_path)


def test_large_files_are_read_by_parts_with_the_same_result(sound, monkeypatch):
    whole = check(sound)
    monkeypatch.setattr("satseg.validation.scanning.PART_VALUES", 1)
    monkeypatch.setattr("satseg.validation.scanning.BLOCK", 40)
    parts = check(sound)
    assert parts.findings == whole.findings
    assert [t.class_pixels.tolist() for t in parts.totals.values()] == [
        t.class_pixels.tolist() for t in whole.totals.values()
    ]
    for one, other in zip(whole.facts, parts.facts, strict=True):
        assert np.allclose(one.image.small, other.image.small)
        assert all(np.array_equal(a, b) for a, b in zip(one.image.edges, other.image.edges, strict=True))
        assert np.array_equal(one.image.drawn, other.image.drawn)


OPTIONS = ("images=*/images/*", "masks=*/masks/*", "classes={land: 0, water: 1, forest: 2}")


def test_the_command_writes_a_record_and_a_page_and_exits_by_what_it_found(sound, tmp_path):
    rewrite("train/masks/4.tif", value_nine)(sound)
    options = ["dataset=folder", "dataset/split=subfolder", f"dataset.root={sound}", "output=out", "workers=2"]
    done = command("validate", *options, *(f"dataset.{o}" for o in OPTIONS), cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "100 % of 10 images" in done.stderr  # the bar
    lines = done.stdout.splitlines()
    assert lines[0] == "Not sound: 1 error in 10 images (6 train, 2 val, 2 test), 3 classes."
    assert lines[1].startswith("error: masks with 600 pixels of 1 value outside the classes: 9 (600 px)")
    record = json.loads((tmp_path / "out/report.json").read_text())
    assert record["sound"] is False and record["findings"][0]["files"] == ["train/masks/4.tif"]
    assert sum(record["splits"]["val"]["class_shares"].values()) == pytest.approx(1)
    page = (tmp_path / "out/report.html").read_text()
    assert "train/masks/4.tif" in page and page.count("data:image/png;base64,") == 3  # balance, samples, places
    assert 'src="http' not in page and 'href="http' not in page


def test_a_sound_dataset_is_told_so(sound, tmp_path):
    text = write_validation(check(sound), tmp_path / "out")
    assert text.startswith("Sound: 10 images (6 train, 2 val, 2 test), 3 classes.")
    assert json.loads((tmp_path / "out/report.json").read_text())["sound"] is True


def test_the_command_names_a_wrong_root_in_one_line(tmp_path):
    assert "is not a folder" in refused("validate", "dataset=folder", "dataset.root=none", cwd=tmp_path)
