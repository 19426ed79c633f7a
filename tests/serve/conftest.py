"""Fixtures of a running app with models, images to upload, and pages in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from browser_visitor import CRS, PLACE, Assets, Server, Visit, random_squares, start, write_model
from connection_counter import Listener, listener

from satseg.data.rasters.writing import write_raster


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    folder = tmp_path_factory.mktemp("assets")
    rgb, multi = random_squares(3, 256, 256, "uint8"), random_squares(6, 256, 10_000, "uint16")
    multi[:, :64, :64] = 0
    with rasterio.open(folder / "photo.png", "w", driver="PNG", width=256, height=256, count=3, dtype="uint8") as file:
        file.write(rgb)
    write_raster(folder / "six bands (1).tif", multi, crs=CRS, transform=tuple(PLACE)[:6], nodata=0)
    return Assets(
        write_model(folder / "rgb" / "model.safetensors", 3, "uint8", rgb),
        folder / "photo.png",
        write_model(folder / "multi" / "model.safetensors", 6, "uint16", multi),
        folder / "six bands (1).tif",
    )


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a large image, whose prediction takes a while."""
    path = tmp_path_factory.mktemp("large") / "large.tif"
    profile = {"driver": "GTiff", "width": 8000, "height": 8000, "count": 3, "dtype": "uint8", "tiled": True}
    with rasterio.open(path, "w", **profile, compress="deflate") as file:
        for band in (1, 2, 3):
            file.write(np.full((8000, 8000), 7, np.uint8), band)
    return path


@pytest.fixture(scope="session")
def internet() -> Iterator[Listener]:
    """Count connections to the proxy that stands in for the internet."""
    with listener() as found:
        yield found


@pytest.fixture(scope="session")
def server(assets: Assets, internet: Listener, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the app with both models."""
    models = f"checkpoint=[{assets.rgb_model},{assets.multi_model}]"
    found = start(models, "max_upload_mb=20", temporary=tmp_path_factory.mktemp("server"), proxy=internet.url)
    yield found
    if found.process.poll() is None:
        found.stop()


@pytest.fixture
def visit(server: Server, browser: Any) -> Iterator[Visit]:
    found = Visit.open(server.address, browser)
    yield found
    assert not [error for error in found.errors if "Content Security Policy" in error]
    found.close()
