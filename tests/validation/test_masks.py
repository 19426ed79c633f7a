"""Masks that hold what is no class, and classes that a split lacks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from validation.breaking import check, cut, found, grave, rewrite
from validation.making import CLASSES, SIZE, read, write

from satseg.errors import ConfigError
from satseg.validation import Limits


def without_class_two(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == 2, 0, mask).astype(np.uint8)


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


def test_masks_that_training_reads_by_a_threshold_are_sound(sound):
    pure = {"land": [255, 0, 0], "water": [0, 255, 0], "forest": [0, 0, 255]}
    table = np.array([*pure.values()])
    for path in sorted(sound.glob("*/masks/*.tif")):
        mask = read(path)[0]
        moved = np.abs(table[np.where(mask > 2, 0, mask)] - int(path.stem))
        Image.fromarray(moved.astype(np.uint8)).save(path.with_suffix(".png"))
        path.unlink()
    assert check(sound, classes=pure, mask_threshold=128).is_sound
    assert grave(check(sound, classes=pure)) != []


def test_values_are_named_only_together_with_classes(sound):
    for option in ({"ignore_values": [0]}, {"mask_values": {7: "land"}}, {"mask_threshold": 128}):
        with pytest.raises(ConfigError, match=r"dataset\.\w+ needs dataset\.classes, too"):
            check(sound, classes=None, **option)


def test_classes_are_found_in_masks_of_floats_that_lack_numbers(sound):
    for path in sound.glob("*/masks/*.tif"):
        mask = read(path)[0].astype(np.float32)
        mask[50:60] = np.nan
        write(path, mask[None], east=int(path.stem) * 10 * SIZE)
    validation = check(sound, classes=None)
    assert validation.is_sound and validation.scheme.names == ("class_0", "class_1", "class_2")


def test_sparse_labels_are_no_fault_and_a_single_empty_mask_is(sound):
    def hardly_labelled(mask: np.ndarray) -> np.ndarray:
        mask[0, 40:] = 255
        return mask

    rewrite("train/masks/2.tif", hardly_labelled)(sound)
    validation = check(sound)
    assert grave(validation) == ["ignored_pixels"]
    assert found(validation, "ignored_pixels").files == ("train/masks/2.tif",)
    for path in sound.glob("*/masks/*.tif"):
        rewrite(path.relative_to(sound).as_posix(), hardly_labelled)(sound)
    validation = check(sound)
    assert validation.is_sound and "sparse labels" in found(validation, "ignored_pixels").message


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


def test_classes_are_found_in_the_masks_that_can_be_read(sound):
    cut("train/masks/2.tif", 0.5)(sound)
    validation = check(sound, classes=None)
    assert grave(validation) == ["unreadable"]
    assert validation.scheme.names == ("class_0", "class_1", "class_2")
