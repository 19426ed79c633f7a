"""Polygons as labels, against pixel centres tested with shapely and pyproj."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pyproj
import pytest
import rasterio
import shapely
from georeferenced_rasters import at, write
from hydra.core.override_parser.overrides_parser import OverridesParser

from satseg.data.folder import FolderDataModule
from satseg.data.labels import polygons
from satseg.data.splits import Blocks, List, Splits
from satseg.errors import ConfigError, DataError, MaskValueError, SatsegError
from satseg.validate.checking import validate
from satseg.validate.findings import Severity

CRS = "EPSG:32633"
EAST, NORTH = 500_000, 4_600_000  # upper left corner of the images; see `at`


def all_train(samples: Any, root: Path) -> Splits:
    return {"train": list(samples), "val": list(samples)[:1], "test": []}


def module(root: Path, **options: Any) -> FolderDataModule:
    defaults = {"split": all_train, "num_workers": 0, "patch_size": 32, "batch_size": 2}
    return FolderDataModule(root, images="images/*.tif", **(defaults | options))


def read_mask(root: Path, **options: Any) -> np.ndarray:
    """Return the whole mask of the first image."""
    data = module(root, **options)
    data.setup()
    mask: np.ndarray = data.reader.read(data.samples()[0])[1]
    return mask


def box(column: float, row: float, width: float, height: float) -> shapely.Polygon:
    """Return a rectangle whose position and size are given in pixels of 10 m."""
    x, y = EAST + 10 * column, NORTH - 10 * row
    return shapely.box(x, y - 10 * height, x + 10 * width, y)


def save(path: Path, shapes: list[Any], crs: str | None = CRS, layer: str | None = None, **fields: list[Any]) -> Path:
    """Write shapes with attributes, in the format of the file extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [np.array(v) if isinstance(v[0], int | float) else np.array(v, object) for v in fields.values()]
    kinds = {shape.geom_type for shape in shapes if shape is not None}
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(shapes, object)),
        values,
        list(fields),
        crs=crs,
        layer=layer,
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
        append=path.exists(),
    )
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a dataset folder with one image of 60 x 80 pixels of 10 m."""
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "data/images/a.tif", np.ones((60, 80), np.uint16), **at(0, 0))
    return tmp_path / "data"


@pytest.mark.parametrize("ending", ["gpkg", "geojson", "shp"])
def test_an_attribute_gives_the_class_and_later_features_overwrite_earlier_ones(root: Path, ending: str) -> None:
    shapes = [box(10, 5, 20, 10), box(20, 0, 5, 60), box(12, 7, 2, 2), box(70, 50, 30, 30)]
    in_file = CRS if ending != "geojson" else "EPSG:4326"
    moved = [to_degrees(s) for s in shapes] if ending == "geojson" else shapes
    save(root / f"labels.{ending}", moved, in_file, kind=["field", "road", "house", "field"])
    mask = read_mask(root, masks=f"labels.{ending}", vectors={"attribute": "kind", "outside": "bare"})
    expected = np.zeros((60, 80))  # bare, then the others in alphabetical order
    expected[5:15, 10:30] = 1
    expected[:, 20:25] = 3
    expected[7:9, 12:14] = 2
    expected[50:, 70:] = 1
    assert (mask == expected).all()


def to_degrees(shape: Any) -> Any:
    move = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform
    return shapely.transform(shape, lambda p: np.column_stack(move(p[:, 0], p[:, 1])))


def random_polygon(rng: np.random.Generator) -> shapely.Polygon:
    """Return a random star-shaped polygon in or near the image, with a hole in half of the cases."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radius = rng.uniform(30, 250, 9)
    centre = rng.uniform(-100, 900), rng.uniform(-100, 700)
    ring = np.column_stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)])
    shape = shapely.Polygon(ring + np.array([EAST, NORTH - 600])).buffer(0)
    return shape.difference(shape.centroid.buffer(40)) if rng.random() < 0.5 else shape


@pytest.mark.parametrize("crs", [CRS, "EPSG:4326"])
def test_a_pixel_has_the_class_of_the_last_polygon_that_contains_its_centre(
    root: Path, crs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    shapes = [s for s in (random_polygon(rng) for _ in range(60)) if s.geom_type == "Polygon"]
    kinds = [int(k) for k in rng.integers(1, 6, len(shapes))]
    save(root / "labels.gpkg", shapes if crs == CRS else [to_degrees(s) for s in shapes], crs, code=kinds)
    options = {
        "masks": "labels.gpkg",
        "classes": {"wood": {"value": [1, 2], "color": "#00aa00"}, "water": 3, "town": 4},
        "ignore_values": [5],
        "vectors": {"attribute": "code", "outside": "ignore"},
    }
    mask = read_mask(root, **options)
    columns, rows = np.meshgrid(np.arange(80), np.arange(60))
    centres = shapely.points(EAST + 10 * (columns + 0.5), NORTH - 10 * (rows + 0.5))
    expected = np.full((60, 80), 255)
    for shape, kind in zip(shapes, kinds, strict=True):
        expected[shapely.contains(shape, centres)] = {1: 0, 2: 0, 3: 1, 4: 2, 5: 255}[kind]
    assert len(np.unique(expected)) == 4
    assert (mask == expected).mean() > (
        0.9999 if crs == CRS else 0.998
    )  # straight edges become slightly curved in the other CRS
    monkeypatch.setattr(polygons, "STRIP_PIXELS", 1)
    monkeypatch.setattr(polygons, "BLOCK", 16)
    monkeypatch.setenv("SATSEG_CACHE", str(root / "another"))
    assert (read_mask(root, **options) == mask).all()


def test_class_names_and_colours_of_polygons_are_part_of_the_spec(root: Path) -> None:
    save(root / "labels.gpkg", [box(0, 0, 40, 60)], code=["x"])
    classes = {"wood": {"value": "x", "color": "#00aa00"}, "else": None}
    data = module(root, masks="labels.gpkg", classes=classes, vectors={"attribute": "code", "outside": "else"})
    data.setup()
    assert data.spec.class_names == ("wood", "else") and data.spec.palette[0] == (0, 0xAA, 0)
    assert data.class_counts.tolist() == [2400, 2400]


def test_without_an_attribute_all_polygons_belong_to_one_class(root: Path) -> None:
    save(root / "buildings.gpkg", [box(0, 0, 10, 10), box(5, 5, 10, 10), None])
    options: dict[str, Any] = {"masks": "buildings.gpkg", "vectors": {"outside": "background"}}
    data = module(root, **options)
    assert data.scheme().names == ("background", "buildings")
    mask = read_mask(root, **options)
    assert mask.sum() == 175 and mask[:10, :10].all() and not mask[20:].any()
    named = module(root, **options, classes=["roof", "background"])
    assert named.scheme().names == ("roof", "background")


def test_the_default_class_name_is_reported_with_the_option_that_renames_it(root: Path) -> None:
    save(root / "labels_osm.gpkg", [box(0, 0, 10, 10)])
    data = module(root, masks="labels_osm.gpkg", vectors={"outside": "bare"})
    data.setup()
    said = "2 classes: bare, labels_osm; all polygons are of one class, named labels_osm after labels_osm.gpkg: "
    assert any(a.startswith(f"{said}dataset.classes=[bare,NAME] gives it another name") for a in data.assumptions)
    found = validate(data, workers=1, progress=False).findings
    assert any(said in finding.message and finding.severity == Severity.NOTE for finding in found)
    named = module(root, masks="labels_osm.gpkg", vectors={"outside": "bare"}, classes=["bare", "roof"])
    named.setup()
    assert named.scheme().names == ("bare", "roof") and not any("labels_osm" in a for a in named.assumptions)


def test_polygons_in_collections_are_drawn_and_lines_in_them_are_reported(root: Path) -> None:
    line = shapely.LineString([(EAST, NORTH), (EAST + 300, NORTH - 300)])
    inner = shapely.GeometryCollection([box(30, 0, 10, 10), line])
    shapes = [box(0, 0, 10, 10), shapely.GeometryCollection([box(20, 0, 5, 5)]), shapely.GeometryCollection([inner])]
    save(root / "all.gpkg", shapes, kind=["wood", "lake", "wood"])
    options: dict[str, Any] = {"masks": "all.gpkg", "vectors": {"attribute": "kind", "outside": "rest"}}
    mask = read_mask(root, **options)
    expected = np.zeros((60, 80))
    expected[:10, :10] = expected[:10, 30:40] = 2
    expected[:5, 20:25] = 1
    assert (mask == expected).all()
    for _ in range(2):  # when they are drawn, then from the cache
        data = module(root, **options)
        data.samples()
        (said,) = (a for a in data.assumptions if "lines or points" in a)
        assert said.startswith(f"1 polygons of {root / 'all.gpkg'} hold lines or points as well as polygons")
    save(root / "none.gpkg", [shapely.GeometryCollection([line])])
    with pytest.raises(DataError, match=r"none.gpkg holds a GeometryCollection, but labels are areas"):
        module(root, masks="none.gpkg", vectors={"outside": "rest"}).samples()


@pytest.mark.parametrize("strip_pixels", [polygons.STRIP_PIXELS, 1])
def test_self_intersecting_polygons_are_drawn_and_reported_once(
    root: Path, strip_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polygons, "STRIP_PIXELS", strip_pixels)
    write(root / "images/b.tif", np.ones((600, 80), np.uint16), **at(0, 0))
    x, y = EAST + 100, NORTH - 100
    bow_tie = shapely.Polygon([(x, y), (x + 200, y - 200), (x + 200, y), (x, y - 200)])
    overlapping = shapely.MultiPolygon([box(40, 10, 20, 20), box(50, 20, 20, 20)])
    save(root / "all.gpkg", [bow_tie, box(70, 0, 5, 5), overlapping], geometry=["a", "b", "c"])
    options: dict[str, Any] = {"masks": "all.gpkg", "vectors": {"outside": "rest"}}
    for _ in range(2):
        data = module(root, **options)
        masks = [data.reader.read(sample)[1] for sample in data.samples()]
        rows, cols = np.mgrid[:60, :80] + 0.5
        valid = shapely.union_all([shapely.make_valid(bow_tie), box(70, 0, 5, 5), *overlapping.geoms])
        expected = shapely.contains_xy(valid, EAST + 10 * cols, NORTH - 10 * rows)
        edge = abs(abs(rows - 20) - abs(cols - 20)) < 1e-9  # centres exactly on the outline of the bow tie
        assert all((mask[:60] == expected)[~edge].all() for mask in masks) and masks[0][25, 55] == 1
        (said,) = (a for a in data.assumptions if "cross or overlap" in a)
        assert said.startswith(f"2 polygons of {root / 'all.gpkg'} cross or overlap themselves")


def test_the_option_in_the_error_about_empty_attributes_ignores_these_polygons(root: Path) -> None:
    save(root / "all.gpkg", [box(0, 0, 10, 10), box(20, 0, 10, 10)], kind=["wood", None])
    options: dict[str, Any] = {"masks": "all.gpkg", "vectors": {"attribute": "kind", "outside": "rest"}}
    with pytest.raises(
        MaskValueError, match=r"kind is empty, .*ignore it by \"(dataset\.ignore_values=\[''\])\""
    ) as caught:
        module(root, **options).samples()
    (advice,) = re.findall(r'ignore it by "(.*)"', str(caught.value))
    (override,) = OverridesParser.create().parse_overrides([advice])
    mask = read_mask(root, **options, ignore_values=override.value())
    assert (mask[:10, 20:30] == 255).all() and (mask[:10, :10] == 1).all() and (mask == 255).sum() == 100


def test_one_polygon_file_applies_to_every_image_and_several_are_paired_by_name(root: Path) -> None:
    write(root / "images/b.tif", np.ones((60, 80), np.uint16), **at(800, 0))
    save(root / "all.gpkg", [box(79, 0, 2, 60)], kind=["line"])
    options = {"attribute": "kind", "outside": "rest"}
    data = module(root, masks="all.gpkg", vectors=options)
    data.setup()
    masks = [data.reader.read(s)[1] for s in data.samples()]
    assert [m.sum(0).nonzero()[0].tolist() for m in masks] == [[79], [0]]
    save(root / "labels/a.geojson", [to_degrees(box(0, 0, 40, 60))], "EPSG:4326", kind=["line"])
    save(root / "labels/b.geojson", [to_degrees(box(80, 0, 20, 60))], "EPSG:4326", kind=["line"])
    data = module(root, masks="labels/*", vectors=options)
    assert [data.reader.read(s)[1].sum() for s in data.samples()] == [2400, 1200]
    (root / "labels/b.geojson").unlink()
    save(root / "labels/c.geojson", [to_degrees(box(80, 0, 20, 60))], "EPSG:4326", kind=["line"])
    with pytest.raises(DataError, match="images have no mask"):
        module(root, masks="labels/*", vectors=options).samples()


def test_a_polygon_file_without_features_is_an_empty_mask_and_lists_may_name_it(root: Path) -> None:
    write(root / "images/b.tif", np.ones((60, 80), np.uint16), **at(800, 0))
    save(root / "labels/a_gt.geojson", [to_degrees(box(0, 0, 40, 60))], "EPSG:4326", kind=["line"])
    (root / "labels/b_gt.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (root / "train.txt").write_text("a_gt\n")
    (root / "val.txt").write_text("b_gt\n")
    data = module(
        root,
        masks="labels/*",
        mask_suffix="_gt",
        vectors={"attribute": "kind", "outside": "rest"},
        split=List(train="train.txt", val="val.txt", test=None),
    )
    splits = data.divide(data.samples())
    assert [int(data.reader.read(splits[split][0])[1].sum()) for split in ("train", "val")] == [2400, 0]


def test_polygons_can_label_bands_in_separate_files(root: Path) -> None:
    for name in ("x", "y"):
        for band in ("B02", "B03"):
            place = at(0 if name == "x" else 800, 0)
            write(root / f"bands/{name}_{band}.tif", np.ones((60, 80), np.uint16), **place)
    save(root / "all.gpkg", [box(79, 0, 2, 60)])
    images = {"B02": "bands/*_B02.tif", "B03": "bands/*_B03.tif"}
    data = FolderDataModule(root, images=images, masks="all.gpkg", vectors={"outside": "rest"}, split=all_train)
    data.setup()
    assert [data.reader.read(s)[1].sum() for s in data.samples()] == [60, 60]


def test_rasterised_polygons_are_cached_until_the_file_changes(root: Path) -> None:
    save(root / "all.gpkg", [box(0, 0, 10, 10)])
    options: dict[str, Any] = {"masks": "all.gpkg", "vectors": {"outside": "rest"}}
    first = module(root, **options)
    kept = first.samples()[0].mask
    stamp = kept.stat().st_mtime_ns
    assert module(root, **options).samples()[0].mask == kept and kept.stat().st_mtime_ns == stamp
    before = first.digests(), first.fingerprint
    assert (module(root, **options).digests(), module(root, **options).fingerprint) == before
    save(root / "all.gpkg", [box(50, 0, 10, 10)])
    assert read_mask(root, **options).sum() == 200
    assert module(root, **options).digests() != before[0]


def test_the_digest_of_a_shapefile_includes_its_attribute_table(root: Path) -> None:
    shapes = [box(0, 0, 10, 10), box(20, 0, 10, 10)]
    save(root / "all.shp", shapes, kind=["wood", "lake"])
    options: dict[str, Any] = {"masks": "all.shp", "vectors": {"attribute": "kind", "outside": "rest"}}
    before = module(root, **options).digests()
    for part in root.glob("all.*"):
        part.unlink()
    save(root / "all.shp", shapes, kind=["lake", "wood"])
    assert module(root, **options).digests() != before


def test_blocks_of_a_scene_are_labelled_by_its_polygons(root: Path) -> None:
    save(root / "all.gpkg", [box(0, 0, 40, 60)])
    data = module(
        root, masks="all.gpkg", vectors={"outside": "rest"}, split=Blocks(size=20, buffer=0, val=0.3, test=0.3)
    )
    data.setup()
    masks = [data.reader.read(sample)[1] for some in data.splits.values() for sample in some]
    assert sum(np.bincount(mask.ravel(), minlength=2) for mask in masks).tolist() == [2400, 2400]


INVALID: dict[str, tuple[dict[str, Any], type[SatsegError], str]] = {
    "no choice": (
        {"vectors": {"attribute": "kind"}},
        ConfigError,
        "dataset.vectors.outside: give the class of pixels in no",
    ),
    "no attribute": ({"vectors": {"outside": "rest"}, "classes": ["a", "b", "rest"]}, ConfigError, "has kind, number"),
    "other attribute": (
        {"vectors": {"attribute": "sort", "outside": "rest"}},
        ConfigError,
        "dataset.vectors.attribute=sort: .*all.gpkg has no such attribute, only kind",
    ),
    "unknown value": (
        {"vectors": {"attribute": "kind", "outside": "ignore"}, "classes": {"wood": "wood", "grass": 7}},
        MaskValueError,
        "all.gpkg holds polygons whose kind is lake, but the classes are wood, grass",
    ),
    "unknown outside": (
        {"vectors": {"attribute": "kind", "outside": "rest"}, "classes": ["wood", "lake"]},
        ConfigError,
        "dataset.vectors.outside: rest is none of the classes wood, lake",
    ),
    "twice": (
        {"vectors": {"attribute": "number", "outside": "ignore"}, "classes": {"a": [1, 2], "b": 2}},
        ConfigError,
        "value 2 is given twice",
    ),
    "misspelt": ({"vectors": {"outsides": "rest"}}, ConfigError, "dataset.vectors.outsides: expected attribute"),
    "layer": (
        {"vectors": {"layer": "other", "attribute": "kind", "outside": "rest"}},
        ConfigError,
        "dataset.vectors.layer=other: .*all.gpkg has the layers all; choose one",
    ),
    "one class": (
        {"vectors": {"attribute": "kind", "outside": "ignore"}, "ignore_values": ["lake"]},
        DataError,
        "of 1 class",
    ),
}


@pytest.mark.parametrize(("options", "error", "message"), INVALID.values(), ids=INVALID)
def test_invalid_options_raise_an_error_that_names_them(
    root: Path, options: dict[str, Any], error: type[SatsegError], message: str
) -> None:
    save(root / "all.gpkg", [box(0, 0, 9, 9), box(20, 0, 9, 9)], kind=["wood", "lake"], number=[1, 2])
    with pytest.raises(error, match=message):
        module(root, masks="all.gpkg", **options).setup()


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_invalid_polygon_files_raise_an_error_that_names_them(root: Path) -> None:
    def refusal(name: str, **options: Any) -> str:
        with pytest.raises(SatsegError) as caught:
            module(root, masks=name, vectors={"outside": "rest"} | options).setup()
        return str(caught.value)

    save(root / "lines.gpkg", [shapely.LineString([(EAST, NORTH), (EAST + 300, NORTH - 300)])])
    assert "lines.gpkg holds a LineString, but labels are areas" in refusal("lines.gpkg")
    save(root / "away.gpkg", [box(500, 500, 9, 9)])
    assert "a.tif and its labels" in refusal("away.gpkg") and "lie in different places" in refusal("away.gpkg")
    save(root / "nowhere.shp", [box(0, 0, 9, 9)], None)
    assert "nowhere.shp has no CRS" in refusal("nowhere.shp")
    (root / "broken.geojson").write_text('{"type": "FeatureCollection", "features": [')
    assert "broken.geojson cannot be read as polygons" in refusal("broken.geojson")
    for layer in ("one", "two"):
        save(root / "several.gpkg", [box(0, 0, 9, 9)], layer=layer)
    assert "has the layers one, two; choose one" in refusal("several.gpkg")
    assert not list((root.parent / "cache").rglob("*.tif"))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write(root / "images/a.tif", np.ones((60, 80), np.uint16))
    save(root / "good.gpkg", [box(0, 0, 9, 9)])
    assert "a.tif has no coordinates, so polygons cannot be drawn on it" in refusal("good.gpkg")
    local = {"crs": 'LOCAL_CS["site",UNIT["metre",1]]', "transform": at(0, 0)["transform"]}
    write(root / "images/a.tif", np.ones((60, 80), np.uint16), **local)
    assert "good.gpkg cannot be drawn on its image: coordinates cannot be transformed" in refusal("good.gpkg")
