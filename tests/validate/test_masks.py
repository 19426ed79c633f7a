"""Faults in masks: invalid values, anti-aliasing, JPEG artefacts, and missing classes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_faults import check, finding_of, problems, rewrite, truncate
from dataset_files import CLASSES, SIZE, read, write
from PIL import Image

from satseg.data import FolderDataModule
from satseg.data.labels.discovery import discover_scheme, scheme_from_config
from satseg.data.splits import Subfolder
from satseg.errors import ConfigError, DataError, MaskValueError
from satseg.validate.checking import Limits


def without_class_two(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == 2, 0, mask).astype(np.uint8)


COLOURS = np.array([[132, 41, 246], [226, 169, 41], [60, 16, 152]], np.uint8)
BY_COLOUR = {name: COLOURS[i].tolist() for name, i in CLASSES.items()}


def colour_masks(root: Path, save: Callable[[Image.Image, Path], None], number: int) -> None:
    """Replace all masks by colour PNGs, but save the first `number` of the training split with `save`."""
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


def from_jpeg(picture: Image.Image, path: Path) -> None:
    picture.save(path.with_suffix(".jpeg"), quality=95, subsampling=0)
    Image.open(path.with_suffix(".jpeg")).save(path.with_suffix(".png"))
    path.with_suffix(".jpeg").unlink()


@pytest.mark.parametrize(
    ("name", "save", "repair"),
    [
        ("antialiased_mask", antialiased, "nearest neighbour"),
        ("jpeg_mask", jpeg, "PNG"),
        ("jpeg_mask", from_jpeg, "PNG"),
    ],
)
def test_anti_aliased_and_jpeg_masks_are_reported(sound, name, save, repair):
    colour_masks(sound, save, 2)
    validation = check(sound, classes=BY_COLOUR)
    finding = finding_of(validation, name)
    assert sorted(Path(f).stem for f in finding.files) == ["0", "1"]
    assert repair in finding.repair and "(" in finding.message
    assert problems(validation) == [name]


def test_anti_aliased_masks_are_found_without_given_classes(sound):
    colour_masks(sound, antialiased, 6)
    validation = check(sound, classes=None)
    assert set(problems(validation)) == {"guessed_classes", "antialiased_mask"}
    assert set(validation.scheme.values) == {r << 16 | g << 8 | b for r, g, b in COLOURS.tolist()}


def test_anti_aliased_grey_masks_are_reported(sound):
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
    assert problems(validation) == ["antialiased_mask"]
    assert sorted(finding_of(validation, "antialiased_mask").files) == ["train/masks/0.tif", "train/masks/1.tif"]


def test_masks_read_with_a_threshold_have_no_problems(sound):
    pure = {"land": [255, 0, 0], "water": [0, 255, 0], "forest": [0, 0, 255]}
    table = np.array([*pure.values()])
    for path in sorted(sound.glob("*/masks/*.tif")):
        mask = read(path)[0]
        moved = np.abs(table[np.where(mask > 2, 0, mask)] - int(path.stem))
        Image.fromarray(moved.astype(np.uint8)).save(path.with_suffix(".png"))
        path.unlink()
    assert check(sound, classes=pure, mask_threshold=128).is_sound
    assert problems(check(sound, classes=pure)) != []


def test_options_for_mask_values_require_classes(sound):
    for option in ({"ignore_values": [0]}, {"mask_values": {7: "land"}}, {"mask_threshold": 128}):
        with pytest.raises(ConfigError, match=r"dataset\.\w+ needs dataset\.classes, too"):
            check(sound, classes=None, **option)


def test_classes_are_discovered_in_float_masks_with_nan(sound):
    for path in sound.glob("*/masks/*.tif"):
        mask = read(path)[0].astype(np.float32)
        mask[50:60] = np.nan
        write(path, mask[None], east=int(path.stem) * 10 * SIZE)
    validation = check(sound, classes=None)
    assert validation.is_sound and validation.scheme.names == ("class_0", "class_1", "class_2")


def test_sparse_labels_in_all_masks_are_accepted_but_not_in_a_single_one(sound):
    def hardly_labelled(mask: np.ndarray) -> np.ndarray:
        mask[0, 40:] = 255
        return mask

    rewrite("train/masks/2.tif", hardly_labelled)(sound)
    validation = check(sound)
    assert problems(validation) == ["ignored_pixels"]
    assert finding_of(validation, "ignored_pixels").files == ("train/masks/2.tif",)
    for path in sound.glob("*/masks/*.tif"):
        rewrite(path.relative_to(sound).as_posix(), hardly_labelled)(sound)
    validation = check(sound)
    assert validation.is_sound and "sparse labels" in finding_of(validation, "ignored_pixels").message


def test_classes_that_are_absent_or_rare_in_a_split_are_reported(sound):
    for number in (6, 7):
        rewrite(f"val/masks/{number}.tif", without_class_two)(sound)
    assert finding_of(check(sound), "absent_class").message == "the val split has no pixel of forest"

    def few_pixels(mask: np.ndarray) -> np.ndarray:
        mask[0, 50, 50:55] = 2
        return mask

    rewrite("val/masks/6.tif", few_pixels)(sound)
    validation = check(sound)
    assert problems(validation) == ["rare_class"] and "forest (0.027 %)" in finding_of(validation, "rare_class").message
    assert check(sound, Limits(min_class_share=0.0001)).is_sound


def test_classes_are_discovered_in_the_readable_masks(sound):
    truncate("train/masks/2.tif", 0.5)(sound)
    validation = check(sound, classes=None)
    assert problems(validation) == ["unreadable"]
    assert validation.scheme.names == ("class_0", "class_1", "class_2")


LOWEST = {"float32": float(np.finfo("float32").min), "int32": -(2**31), "uint16": 65535, "int16": -9999, "uint8": 7}


@pytest.mark.parametrize("dtype", LOWEST)
def test_declared_nodata_of_masks_is_no_class(sound: Path, dtype: str) -> None:
    for path in sound.glob("*/masks/*.tif"):
        mask = read(path).astype(dtype)
        mask[0, 50:60] = LOWEST[dtype]
        write(path, mask, east=int(path.stem) * 10 * SIZE, nodata=LOWEST[dtype])
    for classes in (None, CLASSES):
        validation = check(sound, classes=classes)
        assert validation.is_sound and validation.scheme.names[1:] in (("class_1", "class_2"), ("water", "forest"))
        tally = validation.facts[0].mask
        assert tally is not None and tally.ignored == 10 * SIZE + 10  # the rows, and the corner with 255
    rewritten = read(next(sound.glob("train/masks/*.tif")))
    assert (rewritten == LOWEST[dtype]).sum() == 10 * SIZE


def test_a_nodata_value_that_looks_like_a_class_is_ignored_with_a_note_unless_it_is_a_class(sound: Path) -> None:
    for path in sound.glob("*/masks/*.tif"):
        write(path, read(path), east=int(path.stem) * 10 * SIZE, nodata=0)
    validation = check(sound, classes=None)
    assert validation.scheme.names == ("class_1", "class_2")
    assert "ignored mask values: 0 " in finding_of(validation, "ignored_values").message
    module = FolderDataModule(sound, images="*/images/*", masks="*/masks/*", split=Subfolder(), num_workers=0)
    module.setup()
    assert "mask value 0, 255 is no class and is ignored (dataset.classes names them)" in module.assumptions
    named = check(sound)
    assert named.is_sound and named.scheme.names == tuple(CLASSES)
    assert (
        "10 masks declaring 0 as nodata, which dataset.classes call land" in finding_of(named, "nodata_class").message
    )
    unpaired = sound / "train/masks/0.tif"
    write(unpaired, read(unpaired), east=0)
    with pytest.raises(DataError, match=r"[1-9]\.tif declares 0 as nodata, but .*0\.tif has it as an ordinary value"):
        check(sound, classes=None)
    for path in sound.glob("*/masks/*.tif"):
        write(path, np.minimum(read(path), 1), east=int(path.stem) * 10 * SIZE, nodata=0)
    with pytest.raises(DataError, match=r"only 1 class \(\[1\]\) besides 0, which they declare as nodata;.*give it"):
        check(sound, classes=None)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_an_extreme_undeclared_value_raises_an_error_with_the_remedy(sound: Path, dtype: str) -> None:
    path = sound / "val/masks/6.tif"
    mask = read(path).astype(dtype)
    mask[0, :9] = LOWEST[dtype]
    write(path, mask, east=60 * SIZE)
    with pytest.raises(DataError, match=r"6\.tif holds -[23].*e\+.*does not declare it as nodata: do so if"):
        check(sound, classes=None)


def test_a_transparent_palette_entry_remains_a_class(tmp_path: Path) -> None:
    picture = Image.fromarray(np.tri(9, dtype=np.uint8), "P")
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(tmp_path / "a.png", transparency=0)
    assert discover_scheme([tmp_path / "a.png"]).names == ("class_0", "class_1")


def test_16_bit_colour_masks_equal_8_bit_ones(sound: Path) -> None:
    expected = {}
    for path in sound.glob("*/masks/*.tif"):
        expected[path] = np.where(read(path)[0] > 2, 0, read(path)[0])
        colours = np.moveaxis(COLOURS[expected[path]], -1, 0).astype(np.uint16)
        write(path, colours * 257, east=int(path.stem) * 10 * SIZE)  # 255 becomes 65535
    validation = check(sound, classes=None)
    assert validation.is_sound and validation.scheme.names == ("color_3c1098", "color_8429f6", "color_e2a929")
    given = scheme_from_config(BY_COLOUR)
    for path, classes in expected.items():
        assert np.array_equal(given.read(path), classes)
        assert [validation.scheme.palette[i] for i in validation.scheme.read(path)[0]] == [
            tuple(COLOURS[i].tolist()) for i in classes[0]
        ]
    mask = read(path)
    mask[1, 3, 3] = 300  # not representable with 8 bits
    write(path, mask, east=int(path.stem) * 10 * SIZE)
    with pytest.raises(DataError, match=rf"{path.name} holds colours that do not have 8 bits"):
        discover_scheme(expected)
    with pytest.raises(MaskValueError, match=rf"{path.name} holds colour beyond 8 bits"):
        given.read(path)


def test_fractional_colours_raise_an_error(sound: Path) -> None:
    for path in sound.glob("*/masks/*.tif"):
        write(path, np.stack([read(path)[0] * np.float32(0.25)] * 3), east=int(path.stem) * 10 * SIZE)  # 0 to 1
    with pytest.raises(DataError, match=r"\.tif holds colours that do not have 8 bits"):
        check(sound, classes=None)
