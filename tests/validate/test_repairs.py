"""Suggested repairs with options: they work exactly as printed and remove the finding."""

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_files import SIZE, make_image, make_mask, write
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from scipy.ndimage import uniform_filter

from satseg.cli.checks import check as check_early
from satseg.config import CONFIG_DIR
from satseg.errors import MaskValueError
from satseg.train.build import build_datamodule
from satseg.validate.checking import Limits, Validation, validate
from satseg.validate.findings import Finding

Options = dict[str, str]
Save = Callable[[Path, np.ndarray], None]  # a mask of two classes, 0 and 1
NUMBER = 4
ROAD = {"dataset.classes": "{ground: 0, road: 255}"}
COLOURED = {"dataset.classes": "{ground: [0, 0, 255], road: [255, 0, 0]}"}
TABLE = np.array([[0, 0, 255], [255, 0, 0]], np.uint8)


def make(root: Path, save: Save, image: Callable[[int, np.ndarray], np.ndarray] = make_image) -> Path:
    """Write four images, two of them for training, and their masks of two classes."""
    for number in range(NUMBER):
        mask = make_mask(number, SIZE // 2)
        split = "train" if number < NUMBER // 2 else "val"
        write(root / f"{split}/images/{number}.tif", image(number, mask), crs=None)
        (root / f"{split}/masks").mkdir(exist_ok=True)
        save(root / f"{split}/masks/{number}", np.minimum(mask, 1))
    return root


def run_validation(root: Path, options: Options) -> tuple[Validation, list[Finding]]:
    """Validate a folder with command-line options; return the validation, and its warnings and errors."""
    limits = {key: float(value) for key, value in options.items() if "." not in key}
    given = [f"{key}={value}" for key, value in options.items() if "." in key]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("validate", ["dataset=folder", "dataset/split=subfolder", f"dataset.root='{root}'", *given])
    validation = validate(instantiate(cfg.dataset, _convert_="all"), Limits(**limits), workers=1, progress=False)
    return validation, [finding for finding in validation.findings if finding.severity]


def named_options(repair: str) -> list[Options]:
    """Return the options in a repair, one dictionary for each contiguous group."""
    runs: list[Options] = [{}]
    for word in shlex.split(repair):
        key, equals, value = word.rstrip(".,;").partition("=")
        if equals:
            runs[-1][key] = value
        elif runs[-1]:
            runs.append({})
    return [run for run in runs if run]


def grey(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask * np.uint8(255)).save(path.with_suffix(".png"))


def soft(picture: Image.Image) -> Image.Image:
    size = picture.size
    smaller = picture.resize((size[0] * 3 // 4, size[1] * 3 // 4), Image.Resampling.NEAREST)
    return smaller.resize(size, Image.Resampling.BILINEAR)


def soft_grey(path: Path, mask: np.ndarray) -> None:
    soft(Image.fromarray(mask * np.uint8(255))).save(path.with_suffix(".png"))


def soft_alpha(path: Path, mask: np.ndarray) -> None:
    picture = soft(Image.fromarray(mask * np.uint8(255)))
    Image.merge("LA", (picture, Image.new("L", picture.size, 255))).save(path.with_suffix(".png"))


def soft_colour(path: Path, mask: np.ndarray) -> None:
    soft(Image.fromarray(TABLE[mask])).save(path.with_suffix(".png"))


def jpeg_grey(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask * np.uint8(255)).save(path.with_suffix(".jpg"), quality=80)


def jpeg_colour(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(TABLE[mask]).save(path.with_suffix(".jpg"), quality=90)


def from_jpeg(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(TABLE[mask]).save(path.with_suffix(".jpg"), quality=95, subsampling=0)
    Image.open(path.with_suffix(".jpg")).save(path.with_suffix(".png"))
    path.with_suffix(".jpg").unlink()


def wide(path: Path, mask: np.ndarray) -> None:
    write(path.with_suffix(".tif"), mask[None].astype(np.uint16) * 2 * 257, crs=None)


def wide_white(path: Path, mask: np.ndarray) -> None:
    write(path.with_suffix(".tif"), mask[None].astype(np.uint16) * 65535, crs=None)


def with_extra_value(path: Path, mask: np.ndarray) -> None:
    mask[10:30, 10:30] = 9
    write(path.with_suffix(".tif"), mask[None], crs=None)


def palette(path: Path, mask: np.ndarray) -> None:
    mask[10:30, 10:30] = 2
    picture = Image.fromarray(mask)
    picture.putpalette([*TABLE.ravel().tolist(), 7, 7, 7])
    picture.save(path.with_suffix(".png"))


def with_two_values(path: Path, mask: np.ndarray) -> None:
    mask = mask * np.uint8(255 if int(path.name) % 2 else 1)
    write(path.with_suffix(".tif"), mask[None], crs=None)


def hardly_labelled(path: Path, mask: np.ndarray) -> None:
    if path.name == "1":
        mask[12:] = 255
    write(path.with_suffix(".tif"), mask[None], crs=None)


@pytest.mark.parametrize(
    ("save", "options", "check"),
    [
        (soft_grey, ROAD, "antialiased_mask"),
        (soft_grey, {}, "antialiased_mask"),
        (soft_alpha, ROAD, "antialiased_mask"),
        (soft_colour, COLOURED, "antialiased_mask"),
        (jpeg_grey, ROAD, "jpeg_mask"),
        (jpeg_colour, COLOURED, "jpeg_mask"),
        (from_jpeg, COLOURED, "jpeg_mask"),
        (wide, {"dataset.classes": "{ground: 0, road: 2}"}, "mask_values"),
        (wide_white, ROAD, "mask_values"),
        (with_extra_value, {"dataset.classes": "[ground, road]"}, "mask_values"),
        (palette, COLOURED, "mask_values"),
        (with_two_values, {"dataset.classes": "[ground, road]"}, "two_codes"),
        (hardly_labelled, {"dataset.classes": "[ground, road]"}, "ignored_pixels"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "given" if value else None,
)
def test_printed_repairs_of_masks_work(tmp_path: Path, save: Save, options: Options, check: str) -> None:
    root = make(tmp_path / "some data", save)
    (finding,) = [f for f in run_validation(root, options)[1] if f.check == check]
    runs = named_options(finding.repair)
    assert runs
    for run in runs:
        again, problems = run_validation(root, options | run)
        assert {f.check for f in problems} <= {"ignored_pixels"} - {check}, (run, [f.line() for f in problems])
        # training reads exactly the same pixels
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            given = [f"{key}={value}" for key, value in (options | run).items() if "." in key]
            cfg = compose("train", ["dataset=folder", "dataset/split=subfolder", f"dataset.root='{root}'", *given])
        check_early(cfg, "train")
        datamodule = build_datamodule(cfg)
        datamodule.setup()
        counted = again.totals["train"].class_pixels
        assert datamodule.class_counts.tolist() == counted.tolist() and (counted > 0).sum() >= 2


def test_the_suggested_threshold_recovers_the_original_masks(tmp_path: Path) -> None:
    root = make(tmp_path, soft_grey)
    plain = make(tmp_path / "plain", grey)
    with_threshold = run_validation(root, ROAD | {"dataset.mask_threshold": "128"})[0].totals["train"].class_pixels
    original = run_validation(plain, ROAD)[0].totals["train"].class_pixels
    assert np.abs(with_threshold - original).max() < 0.1 * original.sum()


def constant(number: int, mask: np.ndarray) -> np.ndarray:
    image = make_image(number, mask)
    image[1] = 7
    return image


def filled(number: int, mask: np.ndarray) -> np.ndarray:
    image = make_image(number, mask).astype(np.int32)
    image[:, :5] = -99_999
    return image


def with_label(number: int, mask: np.ndarray) -> np.ndarray:
    image = make_image(number, mask)
    image[2] = np.minimum(mask, 1) * np.uint16(900) + image[2] % 99
    return image


def with_areas(number: int, mask: np.ndarray) -> np.ndarray:
    image = make_image(number, mask)
    random = np.random.default_rng(number)
    image[0] = np.kron(random.integers(1, 7, (6, 6)) * 10, np.ones((SIZE // 12, SIZE // 12)))
    return image


def more_bands(number: int, mask: np.ndarray) -> np.ndarray:
    image = make_image(number, mask)
    return np.concatenate([image, image[:1] // 2]) if number == 1 else image


@pytest.mark.parametrize(
    ("image", "options", "check"),
    [
        (constant, {}, "constant_band"),
        (filled, {}, "undeclared_nodata"),
        (with_label, {}, "giveaway_band"),
        (with_areas, {}, "categorical_band"),
        (more_bands, {}, "bands"),
        (make_image, {"dataset.scale": "255"}, "scale"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_printed_repairs_of_images_work(
    tmp_path: Path, image: Callable[[int, np.ndarray], np.ndarray], options: Options, check: str
) -> None:
    root = make(tmp_path, lambda path, mask: write(path.with_suffix(".tif"), mask[None], crs=None), image)
    (finding,) = [f for f in run_validation(root, options)[1] if f.check == check]
    (run, *others) = named_options(finding.repair)
    for one in (run, *others):
        assert [f.check for f in run_validation(root, options | one)[1]] == []


def test_nodata_is_kept_when_a_threshold_is_applied(tmp_path: Path) -> None:
    def with_missing(path: Path, mask: np.ndarray) -> None:
        stored = np.where(mask == 1, 250, 3).astype(np.uint8)
        stored[:4] = 77
        write(path.with_suffix(".tif"), stored[None], crs=None, nodata=77)

    root = make(tmp_path, with_missing)
    validation, problems = run_validation(root, ROAD | {"dataset.mask_threshold": "128"})
    assert problems == [] and {f.mask.ignored for f in validation.facts} == {4 * SIZE // 2}
    scheme = validation.scheme
    decoded = scheme.read(root / "train/masks/0.tif")
    assert (decoded[:4] == 255).all() and set(np.unique(decoded[4:])) == {0, 1}


def test_the_error_about_colours_suggests_a_threshold_only_where_it_helps(tmp_path: Path) -> None:
    def noisy(path: Path, mask: np.ndarray) -> None:
        soft_mask = uniform_filter(mask * 255.0, 3)
        Image.fromarray(np.stack([soft_mask, soft_mask + 1, soft_mask], -1).clip(0, 255).astype(np.uint8)).save(
            path.with_suffix(".png")
        )

    root = make(tmp_path, noisy)
    with pytest.raises(MaskValueError, match=r"bands that differ.*or dataset\.mask_threshold=128"):
        run_validation(root, ROAD)[0].scheme.read(root / "train/masks/0.png")
    assert run_validation(root, ROAD | {"dataset.mask_threshold": "128"})[1] == []
    with pytest.raises(MaskValueError, match=r"such as water: \[0, 0, 255\]\.$"):
        run_validation(root, {"dataset.classes": "[ground, road]"})[0].scheme.read(root / "train/masks/0.png")
