"""Incomplete band stacks and invalid polygon labels: all are reported, and the rest is validated."""

from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio.features
import shapely
from dataset_faults import check, problems, truncate
from dataset_files import SIZE, UTM, read, write

from satseg.data import FolderDataModule
from satseg.data.splits import Subfolder
from satseg.errors import DataError, RasterReadError

BANDS = {f"B{n}": f"*/bands/*_B{n}.tif" for n in range(4)}
KINDS = ["land", "water", "forest"]
POLYGONS = {
    "masks": "*/labels/*.gpkg",
    "classes": KINDS,
    "vectors": {"attribute": "kind", "outside": "ignore"},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def stacked(sound: Path) -> Path:
    """Add a file for each band to the valid dataset."""
    for path in sound.glob("*/images/*.tif"):
        for number, band in enumerate(read(path)):
            name = path.parents[1] / f"bands/{path.stem}_B{number}.tif"
            write(name, band[None], east=int(path.stem) * 10 * SIZE)
    return sound


@pytest.fixture
def with_polygons(sound: Path) -> Path:
    """Add polygons of the classes to the valid dataset."""
    for path in sound.glob("*/masks/*.tif"):
        with rasterio.open(path) as file:
            parts = list(rasterio.features.shapes(file.read(1), transform=file.transform))
        kinds = [KINDS[int(value)] if value < 3 else "" for _, value in parts]
        save(path, [(shapely.geometry.shape(s), k) for (s, _), k in zip(parts, kinds, strict=True) if k])
    return sound


def save(mask: Path, shapes: list[tuple[shapely.Geometry, str]]) -> None:
    path = mask.parents[1] / f"labels/{mask.stem}.gpkg"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    geometries = shapely.to_wkb(np.array([s for s, _ in shapes], object))
    fields = [np.array([k for _, k in shapes], object)]
    pyogrio.raw.write(path, geometries, fields, ["kind"], crs=UTM, geometry_type="Polygon")


def test_all_incomplete_stacks_are_reported_together(stacked: Path) -> None:
    assert check(stacked, images=BANDS).is_sound
    (stacked / "train/bands/1_B2.tif").unlink()
    (stacked / "train/bands/3_B0.tif").unlink()
    truncate("val/bands/6_B1.tif", 0)(stacked)
    validation = check(stacked, images=BANDS)
    assert problems(validation) == ["unusable", "unusable"]
    lacking, broken = sorted(
        (f for f in validation.findings if f.check == "unusable"), key=lambda f: len(f.files), reverse=True
    )
    assert lacking.message.startswith("2 files cannot be used: dataset.images: ")
    assert "lacks the band B2" in lacking.message and "lacks the band B0" in lacking.message
    assert set(lacking.files) == {"train/bands/1_B0.tif", "train/bands/3_B1.tif"}
    assert broken.files == ("val/bands/6_B0.tif",) and "val/bands/6_B1.tif is empty" in broken.message
    assert {split: totals.images for split, totals in validation.totals.items()} == {"train": 4, "val": 1, "test": 2}
    with pytest.raises(DataError, match="lacks the band B2"):
        FolderDataModule(
            stacked, images=BANDS, masks="*/masks/*", split=Subfolder(), classes=dict(zip(KINDS, range(3), strict=True))
        ).samples()


def test_all_invalid_polygon_files_are_reported_together(with_polygons: Path) -> None:
    assert check(with_polygons, **POLYGONS).is_sound
    truncate("train/labels/1.gpkg", 0.01)(with_polygons)
    left = 500_000 + 2 * 10 * SIZE * 10
    field = shapely.box(left, 4_999_500, left + 300, 5_000_000)
    save(with_polygons / "train/masks/2.tif", [(field, "swamp")])
    save(with_polygons / "train/masks/3.tif", [(shapely.transform(field, lambda p: p + 50_000), "water")])
    write(with_polygons / "train/images/4.tif", read(with_polygons / "train/images/4.tif"), crs=None)
    validation = check(with_polygons, **POLYGONS)
    unusable = {f.files: f.message for f in validation.findings if f.check == "unusable"}
    assert "holds polygons whose kind is swamp" in unusable["train/labels/2.gpkg",]
    assert "cannot be read as polygons" in unusable["train/labels/1.gpkg",]
    elsewhere = unusable["train/images/4.tif", "train/labels/3.gpkg"]
    assert "train/images/4.tif has no coordinates" in elsewhere and len(unusable) == 3
    assert validation.totals["train"].images == 2 and not validation.is_sound


def test_discovering_classes_with_a_corrupt_polygon_file_raises_an_error(with_polygons: Path) -> None:
    for path in with_polygons.glob("*/labels/*.gpkg"):
        path.write_bytes(b"no polygons") if path.stem != "1" else save(
            with_polygons / "train/masks/1.tif", [(shapely.box(500_000, 4_999_500, 500_300, 5_000_000), "")]
        )
    with pytest.raises(RasterReadError, match="cannot be read as polygons"):
        check(with_polygons, **POLYGONS | {"classes": None})


def test_if_no_file_is_usable_the_first_fault_is_raised(with_polygons: Path) -> None:
    for path in with_polygons.glob("*/labels/*.gpkg"):
        path.write_bytes(b"no polygons")
    with pytest.raises(RasterReadError, match="cannot be read as polygons"):
        check(with_polygons, **POLYGONS)
