"""Detection of overlapping crops of one scene in different splits, without georeference."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from dataset_faults import check, finding_of, problems
from dataset_files import SIZE, make_image, make_mask, read, write
from image_changes import ORIENTATIONS, jpeg, resampled
from PIL import Image
from rasterio.enums import Resampling
from scipy.ndimage import gaussian_filter, zoom

from satseg.data.splits import Group, Random
from satseg.validate.fingerprints import Crop, FingerprintTally, find_overlaps
from satseg.validate.leakage import check_leakage

PATTERNS = {"images": "images/*", "masks": "masks/*"}
Save = Callable[[Path, np.ndarray], None]


def png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.moveaxis(array[:3], 0, -1) if len(array) > 1 else array[0]
    Image.fromarray(picture.astype(np.uint8)).save(path.with_suffix(".png"))


def tif(path: Path, array: np.ndarray) -> None:
    write(path.with_suffix(".tif"), array, crs=None)


def floats(path: Path, array: np.ndarray) -> None:
    write(path.with_suffix(".tif"), array if len(array) == 1 else (array / 10_000).astype(np.float32), crs=None)


def crops(root: Path, scene: int, stride: int, save: Save, number: int = 4, size: int = SIZE) -> None:
    """Cut a scene into number * number crops."""
    mask = make_mask(scene, size + stride * (number - 1))
    image = make_image(scene, mask)
    image = image / 20 if save is png else image
    for row in range(number):
        for column in range(number):
            window = (slice(None), *(slice(i * stride, i * stride + size) for i in (row, column)))
            save(root / f"images/{scene}_{row}{column}", image[window])
            save(root / f"masks/{scene}_{row}{column}", mask[None][window])


@pytest.mark.parametrize(("save", "stride"), [(png, 5), (floats, 33), (png, 64), (tif, 80), (floats, 80)])
def test_crops_with_a_stride_below_their_size_overlap(tmp_path, save, stride):
    for scene in range(4):
        crops(tmp_path, scene, stride, save, number=3)
    leaking = check(tmp_path, **PATTERNS, split=Random())
    finding = finding_of(leaking, "overlapping_crops")
    assert problems(leaking) == ["overlapping_crops"]
    share = round(100 * (1 - stride / SIZE))
    assert f"with {share} % of the pixels in common" in finding.message and "dataset/split=group" in finding.repair
    assert len(finding.files) > 20
    assert check(tmp_path, **PATTERNS, split=Group(r"(\d)_", val=["2"], test=["3"])).is_sound


def test_an_image_shifted_by_five_pixels_is_found(sound):
    arrays = {kind: read(sound / f"train/{kind}/0.tif") for kind in ("images", "masks")}
    for path in sound.glob("*/*/*.tif"):
        write(path, read(path), crs=None)
    for (kind, array), fill in zip(arrays.items(), (7, 255), strict=True):
        moved = np.roll(array, (5, -5), (1, 2))
        moved[:, :5] = moved[:, :, -5:] = fill
        write(sound / f"test/{kind}/8.tif", moved, crs=None)
    validation = check(sound)
    assert problems(validation) == ["overlapping_crops"]
    finding = finding_of(validation, "overlapping_crops")
    assert list(finding.files) == ["train/images/0.tif", "test/images/8.tif"]
    assert "1 pair of" in finding.message and "train/0 (train) and test/8 (test), with 90 %" in finding.message


def test_a_small_crop_of_a_large_image_is_found(sound):
    for path in sound.glob("*/*/*.tif"):
        write(path, read(path), crs=None)
    mask = make_mask(50, 700)
    image = make_image(50, mask)
    write(sound / "train/images/large.tif", image, crs=None)
    write(sound / "train/masks/large.tif", mask[None], crs=None)
    write(sound / "test/images/small.tif", image[:, 300:500, 411:611], crs=None)
    write(sound / "test/masks/small.tif", mask[None, 300:500, 411:611], crs=None)
    finding = finding_of(check(sound), "overlapping_crops")
    assert "train/large (train) and test/small (test), with 100 % of" in finding.message


@pytest.mark.parametrize(("kind", "field", "least"), [("fingerprints", "keys", 100), ("landmarks", "positions", 30)])
def test_fingerprints_do_not_depend_on_the_size_of_pieces(sound, monkeypatch, kind, field, least):
    whole = check(sound).facts
    monkeypatch.setattr("satseg.validate.scanning.PIECE_PIXELS", 1600)
    for one, other in zip(whole, check(sound).facts, strict=True):
        assert len(getattr(getattr(one.image, kind), field)) > least
        for a, b in zip(getattr(one.image, kind), getattr(other.image, kind), strict=True):
            assert np.array_equal(a, b)


def test_logos_flat_areas_and_patterns_on_all_images_are_no_overlap(sound):
    """Add a logo, a flat area, straight edges and a coarse pattern to all images."""
    logo = np.random.default_rng(3).integers(1000, 3000, (4, 30, 40))
    pattern = zoom(np.random.default_rng(4).integers(1000, 2000, (4, 8, 2)), (1, SIZE // 8, 10), order=0)
    for path in sound.glob("*/images/*.tif"):
        image = read(path)
        image[:, :30, :40], image[:, 30:60, :40], image[:, :, -20:] = logo, 2222, pattern
        write(path, image, crs=None)
    assert "overlapping_crops" not in problems(check(sound))


def test_overlaps_found_by_georeference_are_reported_once(sound):
    mask = make_mask(60, 2 * SIZE)
    image = make_image(60, mask)
    for place, start in (("train/{}/0.tif", 0), ("test/{}/8.tif", SIZE // 2)):
        columns = slice(start, start + SIZE)
        write(sound / place.format("images"), image[:, :SIZE, columns], east=start)
        write(sound / place.format("masks"), mask[None, :SIZE, columns], east=start)
    validation = check(sound)
    assert problems(validation) == ["overlap"]
    assert [f.check for f in check_leakage(validation.splits)] == ["overlapping_crops"]  # the check without outlines


@pytest.mark.parametrize("smooth", [1.5, 3])
def test_overlaps_are_found_in_single_8_bit_bands(tmp_path, smooth):
    """Smooth scenes have few different values in each neighbourhood."""
    scene = gaussian_filter(np.random.default_rng(0).normal(size=(160, 160)), smooth)
    scene = 110 + 25 * scene / scene.std()
    mask = make_mask(0, 160)
    for name, row, column in (("train/{}/a", 0, 0), ("val/{}/b", 37, 50)):
        window = (slice(row, row + 110), slice(column, column + 110))
        png(tmp_path / name.format("images"), scene[None][:, *window])
        png(tmp_path / name.format("masks"), mask[None][:, *window])
    assert "overlapping_crops" in problems(check(tmp_path))


def halves(root: Path, scenes: list[np.ndarray], changed: Callable[[np.ndarray], np.ndarray], share: float) -> None:
    """Put the left part of each scene into train, and the changed right part into val."""
    for number, scene in enumerate(scenes):
        width = round(scene.shape[2] / (2 - share))
        right = np.ascontiguousarray(changed(np.ascontiguousarray(scene[:, :, -width:])))
        for split, image in (("train", scene[:, :, :width]), ("val", right)):
            write(root / f"{split}/images/{number}.tif", image, crs=None)
            write(root / f"{split}/masks/{number}.tif", np.zeros((1, *image.shape[1:]), np.uint8), crs=None)


def make_scenes(number: int, bands: int = 7) -> list[np.ndarray]:
    """Return scenes of int16 with several bands."""
    masks = [make_mask(300 + n, 200) for n in range(number)]
    scenes = [make_image(300 + n, mask) for n, mask in enumerate(masks)]
    return [np.concatenate([s, s[::-1]])[:bands].astype(np.int16) for s in scenes]


def off_by_one(image: np.ndarray) -> np.ndarray:
    return image + np.random.default_rng(1).choice([-1, 0, 1], image.shape, p=(0.01, 0.98, 0.01)).astype(image.dtype)


@pytest.mark.parametrize("transformation", ["off by one", "nearest", "bilinear", "another grid", "turned", "JPEG"])
def test_resampled_rotated_and_compressed_crops_are_found(tmp_path, transformation):
    """Crops overlap by 35 % or more, but may have no pixel value in common."""
    transformations = {
        "off by one": off_by_one,
        "nearest": lambda image: resampled(image, tmp_path / "warped", Resampling.nearest),
        "bilinear": lambda image: resampled(image, tmp_path / "warped", Resampling.bilinear),
        "another grid": lambda image: resampled(image, tmp_path / "warped", Resampling.bilinear, "EPSG:32632")[
            :, 15:-15, 15:-15
        ],
        "turned": lambda image: ORIENTATIONS["rotated by 90° and mirrored"](off_by_one(image)),
        "JPEG": lambda image: jpeg(image),
    }
    scenes = make_scenes(8)
    scenes = [np.clip(s[:3] / 20, 0, 255).astype(np.uint8) for s in scenes] if transformation == "JPEG" else scenes
    halves(
        tmp_path / "data",
        scenes,
        transformations[transformation],
        0.35 if transformation in ("off by one", "nearest", "bilinear") else 0.5,
    )
    finding = finding_of(check(tmp_path / "data"), "overlapping_crops")
    assert "8 pairs" in finding.message and len(finding.files) == 16
    assert ("rotated by 90° and mirrored" in finding.message) == (transformation == "turned")


@pytest.mark.shared
@pytest.mark.parametrize("resampling", [Resampling.nearest, Resampling.bilinear])
def test_resampled_crops_of_real_scenes_are_found(shared_dir, tmp_path, resampling):
    """Other parts of the same scenes must not be reported."""
    files = ("sen1floods11/Spain_7370579_S2Hand.tif", "polygons_small/lsat.tif", "polygons_small/sen2.tif")
    scenes = []
    for file in files:
        with rasterio.open(shared_dir / "data" / file) as source:
            whole = source.read()[:7]
        scenes += [whole[:, row : row + 150, :230] for row in range(0, whole.shape[1] - 149, 150)]
    halves(tmp_path / "data", scenes, lambda image: resampled(image, tmp_path / "warped", resampling), 0.35)
    finding = finding_of(check(tmp_path / "data"), "overlapping_crops")
    assert f"{len(scenes)} pairs" in finding.message and len(finding.files) == 2 * len(scenes)


def test_thousands_of_images_take_seconds():
    random = np.random.default_rng(0)
    crops = []
    for number in range(4000):
        tally = FingerprintTally(64, 64)
        tally.add(random.normal(size=(64, 64)).astype(np.float32))
        crops.append(Crop(tally.fingerprints(), 64, 64, number % 3))
    assert list(find_overlaps(crops)) == []
