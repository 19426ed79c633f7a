"""Polygons of class maps, against those of GDAL, and merging of polygons across blocks."""

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import shapes

from satseg.data.rasters.header import Window
from satseg.mapping.merging import Merger
from satseg.mapping.polygons import cut

BLOCKS = arrays(np.int16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-1, 2))


def comparable(polygons: np.ndarray, values: np.ndarray) -> list[tuple[int, str]]:
    """Return values and polygons sorted, without vertices on straight lines."""
    plain = shapely.normalize(shapely.simplify(shapely.normalize(polygons), 0))
    return sorted(zip(map(int, values), shapely.to_wkt(plain)))


def by_gdal(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = list(shapes(classes, mask=classes >= 0, connectivity=4))
    polygons = [shapely.Polygon(s["coordinates"][0], s["coordinates"][1:]) for s, _ in found]
    return np.array(polygons, object), np.array([v for _, v in found], np.int16)


@given(BLOCKS)
def test_polygons_of_a_block_equal_those_of_gdal_and_form_a_valid_coverage(classes):
    pieces = cut(np.pad(classes, 1, constant_values=-1))
    assert comparable(pieces.polygons, pieces.values) == comparable(*by_gdal(classes))
    assert shapely.is_valid(pieces.polygons).all()
    if len(pieces.polygons):
        assert shapely.coverage_is_valid(pieces.polygons)
    for index, polygon in enumerate(pieces.polygons, 1):
        assert polygon.area == (pieces.labels == index).sum()
        assert (classes[pieces.labels == index] == pieces.values[index - 1]).all()


@given(BLOCKS, st.integers(1, 5))
def test_merged_polygons_do_not_depend_on_the_block_size(classes, size):
    polygons, values, still_open = sweep(classes, size)
    assert comparable(polygons, values) == comparable(*by_gdal(classes))
    assert still_open[-1] == 0
    if len(polygons):
        assert shapely.coverage_is_valid(polygons)


def sweep(classes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return complete polygons, their classes, and the number of incomplete ones after each block."""
    height, width = classes.shape
    around = np.pad(classes, 1, constant_values=-1)
    merger, found, still_open = Merger(width), [], []
    for row in range(0, height, size):
        for col in range(0, width, size):
            window = Window(col, row, min(size, width - col), min(size, height - row))
            block = around[row : row + window.height + 2, col : col + window.width + 2]
            found.append(merger.add(cut(block, row, col), block, window))
            still_open.append(merger.num_open)
    polygons, values, areas = (np.concatenate(part) for part in zip(*found, strict=True))
    np.testing.assert_array_equal(areas, shapely.area(polygons))
    return polygons, values, still_open


def test_the_number_of_incomplete_polygons_does_not_grow_with_the_length_of_the_map():
    classes = np.random.default_rng(3).integers(0, 2, (1600, 40)).astype(np.int16)
    polygons, _, still_open = sweep(classes, 20)
    assert len(polygons) > 5000
    assert max(still_open) <= 40 + 20  # an incomplete polygon touches the border of the processed area
    assert max(still_open[80:]) <= 1.5 * max(still_open[:80])


def test_an_area_across_all_blocks_is_one_polygon_with_holes():
    classes = np.zeros((60, 60), np.int16)
    classes[1::4, 1::4] = 1  # 225 islands
    polygons, values, _ = sweep(classes, 7)
    sea = polygons[values == 0]
    assert len(sea) == 1 and shapely.get_num_interior_rings(sea[0]) == 225 == (values == 1).sum()
    assert sea[0].area == 60 * 60 - 225
