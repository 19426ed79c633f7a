"""Class areas on the ground in any CRS, against geodesic areas."""

import csv
import re
from decimal import Decimal

import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from satseg.errors import DataError, RasterReadError
from satseg.mapping import ClassArea, class_areas, format_area, write_areas
from satseg.mapping.classmap import BLOCK

NAMES = ("water", "forest", "bare soil")
GEOD = pyproj.Geod(ellps="WGS84")
RNG = np.random.default_rng(2)


def geodesic_areas(classes: np.ndarray, crs: str, transform: rasterio.Affine) -> list[float]:
    """Return the sum of pixel areas on the ellipsoid for each class."""
    to_lonlat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform
    areas = [0.0] * len(NAMES)
    for row, col in np.ndindex(classes.shape):
        if classes[row, col] < len(NAMES):
            corners = [transform @ c for c in ((col, row), (col + 1, row), (col + 1, row + 1), (col, row + 1))]
            lon, lat = zip(*(to_lonlat(*c) for c in corners))
            areas[classes[row, col]] += abs(GEOD.polygon_area_perimeter(lon, lat)[0])
    return areas


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", rasterio.Affine(0.02, 0, 10, 0, -0.02, 72)),
        ("EPSG:4326", rasterio.Affine(0.02, 0, -70, 0, 0.02, -35)),  # south-up
        ("EPSG:4326", rasterio.Affine(0.02, 0.01, 10, -0.005, -0.02, 50)),  # rotated
        ("EPSG:4326", rasterio.Affine(0.02, 0, 179.8, 0, -0.02, -16)),  # across the date line
        ("EPSG:4258", rasterio.Affine(0.02, 0, 10, 0, -0.02, 50)),
        ("EPSG:3857", rasterio.Affine(2000, 0, 1_000_000, 0, -2000, 8_000_000)),
        ("EPSG:3857", rasterio.Affine(1500, 800, 1_000_000, 300, -2000, 8_000_000)),
        ("EPSG:3395", rasterio.Affine(2000, 0, 1_000_000, 0, -2000, 8_000_000)),
        ("EPSG:32633", rasterio.Affine(30, 0, 400_000, 0, -30, 5_000_000)),
        ("EPSG:32633", rasterio.Affine(3000, 0, -300_000, 0, -3000, 7_000_000)),  # far outside of its zone
        ("EPSG:3413", rasterio.Affine(3000, 0, -700_000, 0, -3000, -1_500_000)),
        ("EPSG:3413", rasterio.Affine(900, 700, -2_900_000, 800, -1000, -3_000_000)),
        ("EPSG:3031", rasterio.Affine(9000, 0, -80_000, 0, -9000, 160_000)),  # around the pole
        ("EPSG:3034", rasterio.Affine(2000, 0, 4_000_000, 0, -2000, 800_000)),  # conformal conic
        ("EPSG:3035", rasterio.Affine(2000, 0, 4_000_000, 0, -2000, 3_000_000)),  # equal-area
        ("ESRI:54030", rasterio.Affine(5000, 0, 6_000_000, 0, -5000, 6_500_000)),  # Robinson
    ],
)
def test_areas_equal_those_on_the_ellipsoid(class_map, crs, transform):
    classes = RNG.choice([0, 1, 2, 255], (30, 20)).astype(np.uint8)
    areas = class_areas(class_map(classes, crs=crs, transform=transform), NAMES)
    np.testing.assert_allclose([a.area_m2 for a in areas], geodesic_areas(classes, crs, transform), rtol=1e-3)
    assert [a.pixels for a in areas] == [(classes == i).sum() for i in range(3)]


def test_a_map_of_the_globe_has_the_area_of_the_earth(class_map):
    classes = np.zeros((180, 360), np.uint8)
    classes[:90] = 1
    areas = class_areas(class_map(classes, crs="EPSG:4326", transform=rasterio.Affine(1, 0, -180, 0, -1, 90)), NAMES)
    assert [a.area_m2 for a in areas] == pytest.approx([510.0656e12 / 2, 510.0656e12 / 2, 0], rel=1e-5)


@pytest.mark.parametrize("crs", ["ESRI:54030", "ESRI:54008", "EPSG:3857"])
def test_a_projected_world_map_has_the_area_of_the_earth_and_pixels_beyond_its_edge_are_ignored(class_map, crs):
    side, half = 100_000, (21_000_000, 11_000_000)
    transform = rasterio.Affine(side, 0, -half[0], 0, -side, half[1])
    cols, rows = np.meshgrid(np.arange(2 * half[0] // side) + 0.5, np.arange(2 * half[1] // side) + 0.5)
    to_lonlat, from_lonlat = (pyproj.Transformer.from_crs(*pair, always_xy=True) for pair in ((crs, 4326), (4326, crs)))
    x, y = transform @ (cols, rows)
    inside = np.hypot(*(np.array(from_lonlat.transform(*to_lonlat.transform(x, y))) - (x, y))) < 1
    raster = class_map(np.where(inside, 1, 255), crs=crs, transform=transform)
    top = np.sin(np.radians(to_lonlat.transform(0, half[1] - 1)[1])) if crs == "EPSG:3857" else 1
    assert class_areas(raster, NAMES)[1].area_m2 == pytest.approx(510.0656e12 * top, rel=5e-3)


def test_areas_of_a_projected_map_are_summed_over_blocks(class_map):
    classes = RNG.choice([0, 1, 255], (BLOCK + 30, BLOCK + 70)).astype(np.uint8)
    areas = class_areas(class_map(classes, crs="EPSG:32633", transform=rasterio.Affine(2, 1, 4e5, 1, -3, 0)), NAMES)
    counts = [int((classes == i).sum()) for i in range(3)]
    assert areas == [
        ClassArea(name, count, count / sum(counts), count * 7.0) for name, count in zip(NAMES, counts, strict=True)
    ]
    assert areas[0].area_ha == pytest.approx(counts[0] * 7e-4)


def test_areas_in_feet_are_converted_to_square_metres(class_map):
    raster = class_map(np.zeros((3, 3)), crs="EPSG:2263", transform=rasterio.Affine(10, 0, 9e5, 0, -10, 2e5))
    assert class_areas(raster, NAMES)[0].area_m2 == pytest.approx(9 * (10 * 1200 / 3937) ** 2)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crs": "EPSG:32633"},
        {"transform": rasterio.Affine(2, 0, 9, 0, -2, 9)},
        {"crs": 'LOCAL_CS["arbitrary"]', "transform": rasterio.Affine(2, 0, 9, 0, -2, 9)},
    ],
)
def test_a_map_without_georeference_gives_a_table_without_areas(class_map, tmp_path, options):
    write_areas(class_areas(class_map(np.array([[0, 1, 0, 255]]), **options), NAMES), tmp_path / "new" / "a.csv")
    with (tmp_path / "new" / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["class", "pixels", "share", "area_m2", "area_ha"]
    assert [(r[0], int(r[1]), float(r[2])) for r in rows[1:]] == [
        ("water", 2, pytest.approx(2 / 3)),
        ("forest", 1, pytest.approx(1 / 3)),
        ("bare soil", 0, 0.0),
    ]
    assert {(r[3], r[4]) for r in rows[1:]} == {("", "")}


def test_the_table_contains_areas_and_class_names_with_commas(class_map, tmp_path):
    raster = class_map(np.zeros((10, 10)), crs="EPSG:32633", transform=rasterio.Affine(10, 0, 4e5, 0, -10, 0))
    write_areas(class_areas(raster, ["Wald, licht", "Größe"]), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [r["class"] for r in rows] == ["Wald, licht", "Größe"]
    assert float(rows[0]["area_m2"]) == 10_000 and float(rows[0]["area_ha"]) == 1 and rows[1]["area_m2"] == "0.0"


def test_a_map_without_valid_pixels_has_no_shares(class_map):
    raster = class_map(np.full((4, 4), 255), crs="EPSG:32633", transform=rasterio.Affine(10, 0, 4e5, 0, -10, 0))
    assert class_areas(raster, NAMES) == [ClassArea(name, 0, None, 0.0) for name in NAMES]


@given(st.floats(1e-6, 1e15))
def test_areas_are_formatted_with_three_digits_in_a_suitable_unit(area_m2):
    number, unit = format_area(area_m2).split("\N{NO-BREAK SPACE}")
    assert unit == ("m²" if area_m2 < 100 else "ha" if area_m2 < 1e7 else "km²")
    formatted = Decimal(number.replace(",", "")) * {"m²": 1, "ha": 10**4, "km²": 10**6}[unit]
    assert abs(formatted - Decimal(area_m2)) <= Decimal(area_m2) / 200  # half of the third digit
    digits = number.replace(",", "").replace(".", "").lstrip("0")
    assert re.fullmatch(r"[\d,]+(\.\d+)?", number) and (len(digits) == 3 or (len(digits) > 3 and "." not in number))


@pytest.mark.parametrize(
    ("area_m2", "expected"),
    [(0, "0 ha"), (8, "8.00 m²"), (99.4, "99.4 m²"), (123, "0.0123 ha"), (99_996, "10.0 ha"), (12_300_456, "12.3 km²")],
)
def test_format_area_of_typical_values(area_m2, expected):
    assert format_area(area_m2) == expected.replace(" ", "\N{NO-BREAK SPACE}")


def test_rasters_that_are_no_class_maps_raise_an_error(class_map, tmp_path):
    with pytest.raises(DataError, match=r"holds value 3, but there are 3 classes \(0-2\)"):
        class_areas(class_map(np.array([[3]]), crs="EPSG:32633", transform=rasterio.Affine(1, 0, 9, 0, -1, 9)), NAMES)
    (tmp_path / "a.tif").write_text("not a raster")
    with pytest.raises(RasterReadError, match=r"a\.tif cannot be read"):
        class_areas(tmp_path / "a.tif", NAMES)
