"""Detection of images of different splits that show the same location."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from dataset_faults import check, finding_of, problems
from dataset_files import SIZE, make_image, make_mask, read, write
from hypothesis import given, settings
from hypothesis import strategies as st
from image_changes import ORIENTATIONS, enlarged, jpeg, noisy, reduced
from rasterio.warp import transform
from scipy.ndimage import gaussian_filter


def test_copies_in_another_split_are_found(sound):
    (sound / "test/images/8.tif").write_bytes((sound / "train/images/0.tif").read_bytes())
    (sound / "test/masks/8.tif").write_bytes((sound / "train/masks/0.tif").read_bytes())
    validation = check(sound)
    assert list(finding_of(validation, "duplicates").files) == ["train/images/0.tif", "test/images/8.tif"]
    assert set(problems(validation)) == {"duplicates", "overlap"}  # it also has the same georeference


def test_near_duplicates_in_another_split_are_found(sound):
    image = read(sound / "train/images/0.tif")
    noise = np.random.default_rng(5).normal(size=image.shape) * 20
    write(sound / "test/images/8.tif", (image * 1.1 + 50 + noise).astype(np.uint16), east=8 * 10 * SIZE)
    validation = check(sound)
    assert set(problems(validation)) == {"near_duplicates"}
    assert list(finding_of(validation, "near_duplicates").files) == ["train/images/0.tif", "test/images/8.tif"]


@pytest.mark.parametrize(("east", "name"), [(SIZE, "touching"), (SIZE // 2, "overlap"), (SIZE + 2, None)])
def test_adjacent_and_overlapping_images_in_different_splits_are_found(sound, east, name):
    for kind in ("images", "masks"):
        write(sound / f"test/{kind}/8.tif", read(sound / f"test/{kind}/8.tif"), east=east)
    validation = check(sound)
    assert problems(validation) == ([name] if name else [])
    if name:
        assert set(finding_of(validation, name).files) == {"train/images/0.tif", "test/images/8.tif"}
        assert "dataset/split" in finding_of(validation, name).repair


def test_overlaps_between_different_crs_are_found(sound):
    """Image 8 in the neighbouring UTM zone covers image 0."""
    (x,), (y,) = transform("EPSG:32633", "EPSG:32632", [500_000.0], [5_000_000.0])
    for kind in ("images", "masks"):
        path = sound / f"test/{kind}/8.tif"
        array = read(path)
        write(path, array, crs="EPSG:32632")
        with rasterio.open(path, "r+") as file:
            file.transform = rasterio.Affine(10, 0, x, 0, -10, y)
    validation = check(sound)
    assert problems(validation) == ["overlap"]
    assert set(finding_of(validation, "overlap").files) == {"train/images/0.tif", "test/images/8.tif"}


def test_an_image_in_a_local_crs_has_no_location(sound):
    """A local CRS cannot be transformed to other coordinates."""
    for kind in ("images", "masks"):
        write(sound / f"test/{kind}/8.tif", read(sound / f"test/{kind}/8.tif"), crs='LOCAL_CS["site",UNIT["metre",1]]')
    validation = check(sound)
    assert "8" not in {place.name for place in validation.places} and len(validation.places) == 9
    assert "overlap" not in problems(validation)


def cut_one_scene(root: Path) -> None:
    """Replace all images by parts of one large scene without georeference."""
    mask = make_mask(3, 5 * SIZE)
    image = make_image(3, mask, noise=15)[:3]
    for path in sorted(root.glob("*/*/*.tif")):
        row, column = divmod(int(path.stem), 5)
        rows, columns = (slice(i * SIZE, (i + 1) * SIZE) for i in (row, column))
        array = image[:, rows, columns] if path.parts[-2] == "images" else mask[None, rows, columns]
        write(path, array, crs=None)


def test_adjacent_parts_of_one_scene_are_found_by_their_edges(sound):
    cut_one_scene(sound)
    validation = check(sound)
    finding = finding_of(validation, "continuing_edges")
    assert problems(validation) == ["continuing_edges"]
    joints = {(5, 6), (7, 8), (1, 6), (2, 7), (3, 8), (4, 9)}  # between splits; two rows of five
    assert {Path(f).stem for f in finding.files} == {str(i) for pair in joints for i in pair}
    assert f"{len(joints)} pairs" in finding.message


def test_unrelated_scenes_without_georeference_are_not_reported(sound):
    for path in sorted(sound.glob("*/*/*.tif")):
        write(path, read(path), crs=None)
    assert check(sound).is_sound


@pytest.mark.filterwarnings("error")
def test_edges_without_valid_pixels_are_ignored(sound):
    for path in sorted(sound.glob("*/*/*.tif")):
        array = read(path)
        if path.parts[-2] == "images":
            array[:, :, -8:] = 0
        write(path, array, crs=None, **({"nodata": 0} if path.parts[-2] == "images" else {}))
    assert "continuing_edges" not in problems(check(sound))


def photographs(root: Path, changed, bands: int = 3, dtype: str = "uint8") -> None:
    """For each orientation, put an image into train and its changed copy into val."""
    for number, orient in enumerate((*ORIENTATIONS.values(), lambda image: image)):
        mask = make_mask(200 + number, 2 * SIZE)[: SIZE + 20]
        image = np.clip(make_image(200 + number, mask)[:bands] / 20, 0, 255).astype(np.uint8)
        copy = np.ascontiguousarray(changed(np.ascontiguousarray(orient(image))))
        for split, array in (("train", image), ("val", copy)):
            write(root / f"{split}/images/{number}.tif", array.astype(dtype), crs=None)
            write(
                root / f"{split}/masks/{number}.tif", np.zeros((1, *array.shape[1:]), np.uint8) + number % 3, crs=None
            )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda image: image, ""),
        (noisy, ""),
        (reduced, "enlarged by about 10 %"),
        (lambda image: jpeg(enlarged(image)), "enlarged by about 10 %"),
    ],
)
def test_rotated_mirrored_and_changed_copies_are_found(tmp_path, changed, words):
    """All eight orientations of a rectangular image are reported with their transformation."""
    photographs(tmp_path, changed)
    validation = check(tmp_path)
    finding = finding_of(validation, "near_duplicates")
    names = {Path(file).stem for f in validation.findings if "duplicates" in f.check for file in f.files}
    assert names == {str(n) for n in range(len(ORIENTATIONS) + 1)}
    number = len(ORIENTATIONS) + ("duplicates" not in problems(validation))  # an exact copy is reported separately
    assert f"{number} pairs" in finding.message
    both = f", {words}" if words else ""
    for number, orientation in (
        (2, "rotated by 90°"),
        (1, "rotated by 180°"),
        (1, "mirrored left to right"),
        (1, "mirrored top to bottom"),
        (2, "rotated by 90° and mirrored"),
    ):
        message = finding.message.replace("about 9 %", "about 10 %").replace("about 11 %", "about 10 %")
        assert sum(int(n) for n in re.findall(rf"(\d+) {orientation}{both}[;)]", message)) == number
    assert "continuing_edges" not in problems(validation)  # although a mirrored copy has the edges of its original


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (2, "int16"), (3, "float32")])
def test_rotated_copies_of_any_number_of_bands_and_dtype_are_found(tmp_path, bands, dtype):
    photographs(tmp_path, lambda image: image, bands, dtype)
    assert "7 pairs" in finding_of(check(tmp_path), "near_duplicates").message


def stripes(random: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """A field: rows of one direction and period, with noise."""
    angle, period, phase = random.uniform(0, np.pi), random.uniform(4, 20), random.uniform(0, 2 * np.pi)
    along = places[0] * np.cos(angle) + places[1] * np.sin(angle)
    return 120 + 40 * np.sin(along * 2 * np.pi / period + phase) + random.normal(size=along.shape) * 3


def water(random: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """Almost uniform water with a brightness gradient."""
    slope = random.uniform(-0.2, 0.2, 2)
    return 60 + np.tensordot(slope, places, 1) + gaussian_filter(random.normal(size=places.shape[1:]), 1) * 2


def nearly_constant(random: np.random.Generator, places: np.ndarray) -> np.ndarray:
    return 100 + (random.uniform(size=places.shape[1:]) < 0.001)


def few_shapes(random: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """A few rectangles on a uniform background."""
    image = np.full(places.shape[1:], 90.0)
    for _ in range(random.integers(1, 4)):
        corner, size = random.integers(0, 70, 2), random.integers(8, 60, 2)
        image[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]] = random.integers(0, 255)
    return image


def fields(random: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """Parcels of periodic stripes, like orchards and roofs."""
    edge = random.integers(20, 76)
    return np.where(places[0] < edge, stripes(random, places), np.where(places[1] < edge, 80, 160))


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**31))
def test_repetitive_patterns_are_not_reported_as_copies(tmp_path_factory, seed):
    random, root = np.random.default_rng(seed), tmp_path_factory.mktemp("repeating")
    places = np.indices((SIZE, SIZE)).astype(float)
    for number, make in enumerate((stripes, water, nearly_constant, few_shapes, fields) * 8):
        split = "train" if random.random() < 0.5 else "val"
        image = np.clip(make(random, places), 0, 255).astype(np.uint8)
        write(root / f"{split}/images/{number}.tif", image[None], crs=None)
        write(root / f"{split}/masks/{number}.tif", np.zeros((1, SIZE, SIZE), np.uint8), crs=None)
    assert not {"duplicates", "near_duplicates", "overlapping_crops"} & set(problems(check(root)))
