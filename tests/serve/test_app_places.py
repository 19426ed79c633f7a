"""The app with images whose coordinates have no longitude and latitude."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyogrio
import pytest
from browser_visitor import PLACE, Server, Visit, random_squares

from satseg.data.rasters.writing import write_raster

pytestmark = [pytest.mark.slow, pytest.mark.browser]
LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'


def images_without_lonlat(folder: Path) -> Iterator[Path]:
    """Yield an image in a local CRS, and one with impossible latitudes."""
    for name, crs, transform in (
        ("local", LOCAL, tuple(PLACE)[:6]),
        ("beyond", "EPSG:4326", (0.001, 0.0, 200.0, 0.0, -0.001, 100.0)),
    ):
        write_raster(folder / f"{name}.tif", random_squares(3, 256, 256, "uint8"), crs=crs, transform=transform)
        yield folder / f"{name}.tif"


def test_images_without_lonlat_lack_only_the_base_map_and_geojson(visit: Visit, server: Server, tmp_path: Path) -> None:
    for path in images_without_lonlat(tmp_path):
        visit.segment(path)
        visit.page.locator("#picture img").click(position={"x": 100, "y": 100})
        visit.page.wait_for_selector(".pixel td")
        assert "°" not in visit.page.locator(".pixel h4").inner_text()
        visit.tab("Map")
        visit.page.locator("#map", has_text="not georeferenced").wait_for()
        visit.tab("Files")
        visit.page.get_by_text("GeoJSON cannot be written for this map.").wait_for(timeout=60_000)
        assert visit.page.locator("#download-GeoJSON").is_hidden()
        assert pyogrio.read_info(visit.download("#download-GeoPackage", tmp_path))["features"] > 0
        visit.tab("Result")
    assert not visit.errors and "Traceback" not in (server.temporary / "log").read_text()
