"""Images of different splits that show the same place."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform
from validation.breaking import check, found, grave
from validation.making import SIZE, make_image, make_mask, read, write


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
    assert set(grave(validation)) == {"near_duplicates"}
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


def test_an_image_in_a_local_grid_lies_nowhere(sound):
    """From the grid of a building site nothing leads to other coordinates."""
    for kind in ("images", "masks"):
        write(sound / f"test/{kind}/8.tif", read(sound / f"test/{kind}/8.tif"), crs='LOCAL_CS["site",UNIT["metre",1]]')
    validation = check(sound)
    assert "8" not in {place.name for place in validation.places} and len(validation.places) == 9
    assert "overlap" not in grave(validation)


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
