"""Pixel sizes on the ground in metres, against geodesic distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Geod, Transformer

from satseg.data.rasters.header import RasterInfo, Window, read_info
from satseg.inference.preflight import inspect
from satseg.inference.reading import SceneSource, scene_header
from satseg.spec import InputSpec

SOURCE = InputSpec(("band_1",), "uint8", 255.0, gsd_m=0.5, gsd_range_m=(0.5, 0.5))
PLACES = {  # CRS, longitude, latitude, and pixel size in CRS units
    "web Mercator": ("EPSG:3857", 10, 60, (1.0, 1.0)),
    "degrees": ("EPSG:4326", 10, 60, (1e-5, 1e-5)),
    "degrees in the south, at the date line": ("EPSG:4326", 179.9999999, -35, (1e-5, 2e-5)),
    "UTM": ("EPSG:32633", 15, 45, (10.0, 10.0)),
    "feet": ("EPSG:2263", -74, 40.7, (3.0, 3.0)),
    "equal area, of a continent": ("EPSG:3035", 35, 40, (10.0, 20.0)),
    "polar": ("EPSG:3995", 40, 62, (30.0, 30.0)),
    "equal area, of the world": ("ESRI:54009", 120, 55, (250.0, 250.0)),
}


def write_raster(
    folder: Path, crs: str, lon: float, lat: float, pixel_size: tuple[float, float], rotation_deg: float = 0
) -> RasterInfo:
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    affine = rasterio.Affine.translation(x, y) @ rasterio.Affine.rotation(rotation_deg)
    affine = affine @ rasterio.Affine.scale(pixel_size[0], -pixel_size[1])
    profile = {"count": 1, "width": 40, "height": 20, "dtype": "uint8", "crs": crs, "transform": affine}
    with rasterio.open(folder / "a.tif", "w", driver="GTiff", **profile) as file:
        file.write(np.ones((1, 20, 40), np.uint8))
    return read_info(folder / "a.tif")


@pytest.mark.parametrize("rotation", [0, 30])
@pytest.mark.parametrize("where", PLACES)
def test_pixel_sizes_equal_geodesic_distances(tmp_path: Path, where: str, rotation: float) -> None:
    crs, lon, lat, pixel_size = PLACES[where]
    info = write_raster(tmp_path, crs, lon, lat, pixel_size, rotation)
    to_degrees, geod = Transformer.from_crs(crs, "EPSG:4326", always_xy=True), Geod(ellps="WGS84")
    affine = rasterio.Affine(*(info.transform or ()))
    for size, step in zip(info.pixel_m or (), ((1, 0), (0, 1)), strict=True):
        ends = [to_degrees.transform(*(affine @ (20 + s * step[0] / 2, 10 + s * step[1] / 2))) for s in (-1, 1)]
        assert size == pytest.approx(geod.inv(*ends[0], *ends[1])[2], rel=0.003)


def test_the_pixel_size_of_a_window_is_that_at_its_own_latitude(tmp_path: Path) -> None:
    info = write_raster(tmp_path, "EPSG:4326", 10, 70, (0.1, 2.0))
    sizes = [scene_header(info, Window(0, row, 40, 5), None).pixel_m for row in (0, 15)]
    assert sizes[0] and sizes[1] and sizes[1][0] > 1.5 * sizes[0][0]


NOT_SQUARE = {
    "1 x 2 m": ("EPSG:32633", 15, 60, (1.0, 2.0), (80, 80)),
    "degrees": ("EPSG:4326", 10, 60, (1e-5, 1e-5), (45, 45)),
    "web Mercator": ("EPSG:3857", 10, 60, (1.0, 1.0), (40, 20)),
}


@pytest.mark.parametrize("where", NOT_SQUARE)
def test_resampled_pixels_are_square_on_the_ground(tmp_path: Path, where: str) -> None:
    *placed, (width, height) = NOT_SQUARE[where]
    info = write_raster(tmp_path, *placed)
    scene = SceneSource(grid := scene_header(info, None, 0.5), (1,), resampled=True)
    assert (grid.width, grid.height) == (pytest.approx(width, abs=1), pytest.approx(height, abs=1))
    corners = [rasterio.Affine(*(i.transform or ())) @ (i.width, i.height) for i in (info, grid)]
    assert corners[0] == pytest.approx(corners[1])
    with scene.open() as reader:
        image, valid = reader.read(Window(0, 0, grid.width, grid.height))
    assert (image == 1).all() and valid.all() and image.shape == (1, grid.height, grid.width)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("1 x 2 m", "has pixels of 1 x 2 m on the ground, 4 times those of the training (0.5 m)"),
        ("degrees", "has pixels of 0.558 x 1.11 m on the ground, 2.2 times those"),
        ("web Mercator", None),
    ],
)
def test_the_warning_about_pixel_size_uses_the_size_on_the_ground(
    tmp_path: Path, where: str, words: str | None
) -> None:
    info = write_raster(tmp_path, *NOT_SQUARE[where][:4])
    warnings = [w for w in inspect(SceneSource(info, (1,)), SOURCE).warnings if "pixels of" in w]
    assert len(warnings) == (words is not None)
    assert words is None or (words in warnings[0] and "set gsd_m=0.5 " in warnings[0])
