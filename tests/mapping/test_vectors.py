"""Conversion of class maps to polygon layers."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter

from satseg.errors import ConfigError, DataError, RasterReadError, ResourceError
from satseg.mapping import class_areas, join_layers, layers, write_vectors

NAMES = ("water", "forest", "bare soil")
UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)}
ROTATED = {"crs": "EPSG:32633", "transform": rasterio.Affine(8, 3, 500_000, 2, -7, 4_000_000)}
LONLAT = {"crs": "EPSG:4326", "transform": rasterio.Affine(0.01, 0, 24, 0, -0.01, 61)}
POLAR = {"crs": "EPSG:3413", "transform": rasterio.Affine(900, 700, -2_900_000, 800, -1000, -3_000_000)}
ENDINGS = [".gpkg", ".geojson", ".fgb"]


def blobs(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return smooth regions like a predicted map, with a part without data."""
    noise = np.random.default_rng(seed).standard_normal((len(NAMES), height, width))
    classes = gaussian_filter(noise, (0, 2, 2)).argmax(0).astype(np.uint8)
    rows, cols = np.ogrid[:height, :width]
    classes[(rows - height / 2) ** 2 + (cols - width / 3) ** 2 < (min(height, width) / 5) ** 2] = 255
    return classes


def read(path: Path) -> tuple[dict, np.ndarray, dict[str, np.ndarray]]:
    meta, _, wkb, data = pyogrio.raw.read(path)
    return meta, shapely.from_wkb(wkb), dict(zip(meta["fields"], data))


def outline(classes: np.ndarray, transform: rasterio.Affine) -> shapely.Geometry:
    """Return the outline of the valid area."""
    found = rasterio.features.shapes((classes != 255).astype(np.uint8), mask=classes != 255, transform=transform)
    return shapely.union_all([shapely.geometry.shape(s) for s, _ in found])


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 255])))
def test_rasterising_the_polygons_gives_the_original_map(class_map, tmp_path_factory, classes):
    output = tmp_path_factory.mktemp("drawn") / "a.gpkg"
    for place in (UTM, ROTATED):
        write_vectors(class_map(classes, **place), output, NAMES, block_size=4)
        _, polygons, fields = read(output)
        blank = [(shapely.Point(0, 0), 255)]  # outside the map, since rasterize rejects an empty list
        shapes = blank + list(zip(polygons, fields["value"].tolist()))
        drawn = rasterize(shapes, classes.shape, fill=255, transform=place["transform"])
        np.testing.assert_array_equal(drawn, classes)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_keeps_crs_and_attributes(class_map, tmp_path, ending):
    classes = np.array([[0, 0, 1], [2, 0, 255]], np.uint8)
    count = write_vectors(class_map(classes, **UTM), tmp_path / f"a b{ending}", NAMES)
    meta, polygons, fields = read(tmp_path / f"a b{ending}")
    assert count == 3 == len(polygons)
    assert {k: sorted(v.tolist()) for k, v in fields.items()} == {
        "class": sorted(NAMES),
        "value": [0, 1, 2],
        "area_m2": [100.0, 100.0, 300.0],
    }
    assert [NAMES[v] for v in fields["value"]] == fields["class"].tolist()
    assert pyogrio.list_layers(tmp_path / f"a b{ending}").tolist() == [["a b", "Polygon"]]
    soil = np.array([[500_000, 3_999_980], [500_010, 3_999_980], [500_010, 3_999_990], [500_000, 3_999_990]], float)
    if ending == ".geojson":
        soil = np.stack(pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform(*soil.T), axis=1)
    expected = shapely.Polygon(soil)
    assert meta["crs"] == ("EPSG:4326" if ending == ".geojson" else "EPSG:32633")
    found = polygons[fields["value"].tolist().index(2)]
    assert found.symmetric_difference(expected).area < 1e-3 * expected.area
    assert [p.name for p in tmp_path.iterdir()] == [f"a b{ending}"]


def test_simplified_polygons_have_no_gaps_or_overlaps(class_map, tmp_path):
    classes = blobs(90, 70)
    raster = class_map(classes, **UTM)
    whole = write_vectors(raster, tmp_path / "whole.gpkg", NAMES, block_size=32)
    simple = write_vectors(raster, tmp_path / "simple.gpkg", NAMES, block_size=32, simplify_m=25)
    before, after = read(tmp_path / "whole.gpkg")[1], read(tmp_path / "simple.gpkg")[1]
    assert simple == whole == len(after)
    assert shapely.get_num_coordinates(after).sum() < 0.7 * shapely.get_num_coordinates(before).sum()
    assert shapely.coverage_is_valid(after) and shapely.is_valid(after).all()
    union, expected = shapely.union_all(after), outline(classes, UTM["transform"])
    assert union.symmetric_difference(expected).area < 1e-6 * expected.area
    assert shapely.area(after).sum() == pytest.approx(expected.area, rel=1e-6)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_larger_tolerance_leaves_fewer_vertices_and_is_in_metres(class_map, tmp_path):
    def vertices(place: dict, simplify_m: float) -> int:
        write_vectors(class_map(blobs(60, 60), **place), tmp_path / "a.gpkg", NAMES, simplify_m=simplify_m)
        return int(shapely.get_num_coordinates(read(tmp_path / "a.gpkg")[1]).sum())

    counts = [vertices(UTM, tolerance) for tolerance in (0, 10, 20, 40)]
    assert counts == sorted(counts, reverse=True) and len(set(counts)) == 4
    # 40 m on pixels of 20 m simplify like 20 m on pixels of 10 m, and like 2 pixels without georeference.
    coarse = UTM | {"transform": rasterio.Affine(20, 0, 500_000, 0, -20, 4_000_000)}
    assert vertices(coarse, 40) == vertices({}, 2) == counts[2]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("options", [{}, {"crs": "EPSG:32633"}])
def test_a_map_without_georeference_gives_pixel_coordinates(class_map, tmp_path, ending, options):
    classes = np.array([[0, 1], [0, 1], [0, 0]], np.uint8)
    assert write_vectors(class_map(classes, **options), tmp_path / f"a{ending}", NAMES, min_area_m2=3) == 1
    meta, polygons, fields = read(tmp_path / f"a{ending}")
    assert polygons[0].equals(shapely.Polygon([(0, 0), (1, 0), (1, 2), (2, 2), (2, 3), (0, 3)]))
    assert fields["area_px"].tolist() == [4.0] and "area_m2" not in fields
    if ending != ".geojson":  # which cannot omit the CRS
        assert meta["crs"] is None


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_map_without_valid_pixels_gives_an_empty_layer(class_map, tmp_path, ending):
    raster = class_map(np.full((5, 5), 255, np.uint8), **UTM)
    assert write_vectors(raster, tmp_path / f"a{ending}", NAMES, simplify_m=5) == 0
    assert len(read(tmp_path / f"a{ending}")[1]) == 0


def test_polygons_below_the_minimum_area_are_left_out(class_map, tmp_path):
    raster = class_map(blobs(50, 50), **UTM)
    write_vectors(raster, tmp_path / "all.gpkg", NAMES)
    areas = read(tmp_path / "all.gpkg")[2]["area_m2"]
    count = write_vectors(raster, tmp_path / "large.gpkg", NAMES, min_area_m2=600)
    kept = read(tmp_path / "large.gpkg")[2]["area_m2"]
    assert count == len(kept) < len(areas)
    assert sorted(kept) == sorted(a for a in areas if a >= 600)


@pytest.mark.parametrize("place", [LONLAT, POLAR])
@pytest.mark.parametrize("simplify_m", [0, 2000])
def test_polygon_areas_in_distorting_crs_are_geodesic_and_sum_to_the_class_areas(
    class_map, tmp_path, simplify_m, place
):
    raster = class_map(blobs(60, 60), **place)
    write_vectors(raster, tmp_path / "a.fgb", NAMES, simplify_m=simplify_m, block_size=40)
    _, polygons, fields = read(tmp_path / "a.fgb")
    geod = pyproj.Geod(ellps="WGS84")
    dense = shapely.segmentize(polygons, place["transform"].a / 10)  # a geodesic is not straight in the grid
    to_lonlat = pyproj.Transformer.from_crs(place["crs"], 4326, always_xy=True)
    dense = shapely.transform(dense, lambda points: np.stack(to_lonlat.transform(*points.T), axis=1))
    expected = [abs(geod.geometry_area_perimeter(p)[0]) for p in dense]
    np.testing.assert_allclose(fields["area_m2"], expected, rtol=1e-3)
    if not simplify_m:
        for index, area in enumerate(class_areas(raster, NAMES)):
            assert fields["area_m2"][fields["value"] == index].sum() == pytest.approx(area.area_m2, rel=1e-9)


def town(size: int, seed: int = 0) -> np.ndarray:
    """Return buildings (1) of various orientations and sizes, and roads (2)."""
    draw, (rows, cols) = np.random.default_rng(seed), np.mgrid[:size, :size]
    classes = np.zeros((size, size), np.uint8)
    classes[(rows + cols // 3) % 60 < 5] = 2
    for _ in range(size**2 // 700):
        row, col, angle = draw.uniform(0, size), draw.uniform(0, size), draw.uniform(0, np.pi)
        along = (cols - col) * np.cos(angle) + (rows - row) * np.sin(angle)
        across = (rows - row) * np.cos(angle) - (cols - col) * np.sin(angle)
        classes[(abs(along) < draw.uniform(2, 9)) & (abs(across) < draw.uniform(2, 6))] = 1
    return classes


METRE = {"crs": "EPSG:32633", "transform": rasterio.Affine(1, 0, 500_000, 0, -1, 4_000_000)}


@pytest.mark.parametrize("simplify_m", [3, 50])
def test_small_squares_survive_simplification_and_keep_their_area(class_map, tmp_path, simplify_m):
    classes = np.zeros((100, 100), np.uint8)
    for row in range(5, 95, 10):
        for col in range(5, 95, 10):
            classes[row : row + 4, col : col + 4] = 1
    options = {"simplify_m": simplify_m, "min_area_m2": 10}
    assert write_vectors(class_map(classes, **METRE), tmp_path / "a.gpkg", NAMES, **options) == 82
    _, polygons, fields = read(tmp_path / "a.gpkg")
    assert fields["area_m2"][fields["value"] == 1].tolist() == [16.0] * 81
    assert (shapely.get_num_coordinates(polygons[fields["value"] == 1]) == 5).all()


@pytest.mark.parametrize("simplify_m", [2, 5, 20])
def test_simplification_keeps_class_totals_and_approximate_polygon_areas(class_map, tmp_path, simplify_m):
    raster, warnings = class_map(town(300), **METRE), []
    whole = write_vectors(raster, tmp_path / "whole.fgb", NAMES, block_size=128)
    options = {"simplify_m": simplify_m, "block_size": 128, "warn": warnings.append}
    assert write_vectors(raster, tmp_path / "simple.fgb", NAMES, **options) == whole and warnings == []
    (_, before, first), (_, after, second) = read(tmp_path / "whole.fgb"), read(tmp_path / "simple.fgb")
    assert shapely.coverage_is_valid(after) and shapely.is_valid(after).all()
    assert shapely.get_num_coordinates(after).sum() < 0.5 * shapely.get_num_coordinates(before).sum()
    for index, area in enumerate(class_areas(raster, NAMES)):
        assert second["area_m2"][second["value"] == index].sum() == pytest.approx(area.area_m2, rel=0.01)
    np.testing.assert_allclose(sorted(second["area_m2"]), sorted(first["area_m2"]), rtol=0.101)


def test_a_class_that_loses_more_than_one_percent_is_warned_of(class_map, tmp_path):
    classes = np.zeros((40, 40), np.uint8)
    classes[:10], classes[20, ::4] = 2, 1
    warnings = []
    write_vectors(class_map(classes, **METRE), tmp_path / "a.gpkg", NAMES, min_area_m2=2, warn=warnings.append)
    assert len(warnings) == 1 and "min_area_m2=2" in warnings[0]
    assert "forest covers 100.0% less than in the map" in warnings[0]


def test_all_batches_of_polygons_are_written(class_map, tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "BATCH", 7)
    raster = class_map(blobs(60, 60), **UTM)
    for ending in ENDINGS:
        count = write_vectors(raster, tmp_path / f"a{ending}", NAMES, block_size=16)
        assert count == len(read(tmp_path / f"a{ending}")[1]) > 50


def test_invalid_options_maps_and_outputs_raise_an_error(class_map, tmp_path):
    raster = class_map(np.array([[0, 7]], np.uint8), **UTM)
    with pytest.raises(ConfigError, match=r"a\.shp: expected a name that ends in \.gpkg, \.geojson, \.fgb"):
        write_vectors(raster, tmp_path / "a.shp", NAMES)
    local = class_map(np.zeros((2, 2)), crs='LOCAL_CS["site",UNIT["metre",1]]', transform=UTM["transform"])
    with pytest.raises(ConfigError, match=r"no longitude and latitude for GeoJSON; write \.gpkg or \.fgb"):
        write_vectors(local, tmp_path / "a.geojson", NAMES)
    with pytest.raises(ConfigError, match="min_area_m2=-1: expected a number of 0 or more"):
        write_vectors(raster, tmp_path / "a.gpkg", NAMES, min_area_m2=-1)
    with pytest.raises(ConfigError, match="simplify_m=nan"):
        write_vectors(raster, tmp_path / "a.gpkg", NAMES, simplify_m=float("nan"))
    with pytest.raises(DataError, match=re.escape(f"{raster} holds value 7, but there are 3 classes (0-2)")):
        write_vectors(raster, tmp_path / "a.gpkg", NAMES)
    with pytest.raises(DataError, match="1 bands of uint16, but a class map has one of uint8"):
        write_vectors(class_map(np.zeros((2, 2)), dtype="uint16", **UTM), tmp_path / "a.gpkg", NAMES)
    with pytest.raises(RasterReadError, match="is not there"):
        write_vectors(tmp_path / "none.tif", tmp_path / "a.gpkg", NAMES)
    with pytest.raises(ResourceError, match="cannot be written"):
        write_vectors(class_map(np.zeros((2, 2)), **UTM), Path("/proc/nothing/a.gpkg"), NAMES)
    assert not list(tmp_path.iterdir())


# A limit on file sizes simulates a full disk. GDAL reports no error if space runs out while it closes a file.
FULL_DISK = """
import resource, sys
from pathlib import Path
from satseg.errors import ResourceError
from satseg.mapping import write_vectors
raster, folder, *endings = sys.argv[1:]
for ending in endings:
    whole, output = Path(folder) / f"whole{ending}", Path(folder) / "full" / f"whole{ending}"
    size = whole.stat().st_size
    for missing in (2, 99, size // 2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, -1))
        try:
            write_vectors(raster, output, ("water", "forest", "bare soil"))
        except ResourceError as error:
            print(error)
        assert list(output.parent.iterdir()) == [], (ending, missing)
"""


def test_a_full_disk_leaves_no_incomplete_file(class_map, tmp_path):
    raster = class_map(blobs(200, 200), **UTM)
    (tmp_path / "full").mkdir()
    for ending in ENDINGS:
        write_vectors(raster, tmp_path / f"whole{ending}", NAMES)
    command = [sys.executable, "-c", FULL_DISK, str(raster), str(tmp_path), *ENDINGS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3 * len(ENDINGS) == done.stdout.count(" cannot be written: ")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failed_conversion_keeps_the_previous_file(class_map, tmp_path, monkeypatch, ending):
    monkeypatch.setattr(layers, "BATCH", 1)
    output = tmp_path / f"a{ending}"
    output.write_text("older")
    classes = np.zeros((8, 8), np.uint8)
    classes[::2, ::2], classes[7, 7] = 1, 9
    with pytest.raises(DataError, match="holds value 9"):
        write_vectors(class_map(classes, **UTM), output, NAMES, block_size=2)
    assert output.read_text() == "older" and list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("ending", ENDINGS)
def test_polygons_of_several_maps_are_joined_into_one_layer_per_crs(class_map, tmp_path, monkeypatch, ending):
    monkeypatch.setattr("satseg.mapping.joining.BATCH", 7)
    places = {
        "a": UTM,
        "b": UTM | {"transform": rasterio.Affine(5, 0, 600_000, 0, -5, 4_000_000)},
        "other": UTM | {"crs": "EPSG:32634"},
        "nowhere": {},
        "empty": UTM,
    }
    maps, files = {}, {}
    for seed, (name, place) in enumerate(places.items()):
        maps[name] = np.full((40, 30), 255, np.uint8) if name == "empty" else blobs(40, 30, seed)
        files[name] = tmp_path / f"{name}{ending}", class_map(maps[name], **place)
        write_vectors(files[name][1], files[name][0], NAMES)
    output = tmp_path / "all.gpkg"
    counts = join_layers(files, output)
    lonlat = {"a": 4326, "b": 4326, "other": 4326, "nowhere": None}
    epsg = lonlat if ending == ".geojson" else {"a": 32633, "b": 32633, "other": 32634, "nowhere": None}
    assert set(counts) == {f"all_epsg_{code}" if code else "all_pixels" for code in epsg.values()}
    for layer, count in counts.items():
        meta, _, wkb, columns = pyogrio.raw.read(output, layer=layer)
        fields = dict(zip(meta["fields"], columns))
        scenes = [name for name, code in epsg.items() if layer == (f"all_epsg_{code}" if code else "all_pixels")]
        assert meta["crs"] == (f"EPSG:{epsg[scenes[0]]}" if epsg[scenes[0]] else None)
        assert len(wkb) == count and list(dict.fromkeys(fields["scene"])) == scenes
        for scene in scenes:
            pixel = abs(places[scene]["transform"].determinant) if scene in "ab other" else 1.0
            sizes = fields["area_m2" if scene in "ab other" else "area_px"]
            for value, name in enumerate(NAMES):
                own = (fields["scene"] == scene) & (fields["value"] == value)
                assert set(fields["class"][own]) <= {name}
                assert sizes[own].sum() == pytest.approx((maps[scene] == value).sum() * pixel)
    one = join_layers({name: files[name] for name in ("a", "empty", "b")}, tmp_path / "one.gpkg")
    assert list(one) == ["one"] and pyogrio.read_info(tmp_path / "one.gpkg")["capabilities"]["fast_spatial_filter"]
