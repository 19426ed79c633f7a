"""Cancelling takes effect at the next step, even after the last window."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from browser_visitor import Assets
from omegaconf import OmegaConf

from satseg.config import CONFIG_DIR
from satseg.data.rasters.header import read_info
from satseg.data.rasters.writing import write_raster
from satseg.errors import CancelledError
from satseg.inference.reading import SceneSource
from satseg.mapping import class_areas
from satseg.serve.jobs import Ticket
from satseg.serve.page.downloads import write_downloads
from satseg.serve.segmenting import Segmented, segment_upload
from satseg.serve.served_models import load_models
from satseg.serve.uploads import Limits, Upload, check_upload

NAMES = ("water", "forest", "road")


class CancelledAfterLastWindow(Ticket):
    """A ticket that is cancelled when the last window is done."""

    def reach(self, share: float) -> None:
        super().reach(share)
        if share == 1:
            self.cancel()


class CancelledAtThirdStep(Ticket):
    """A ticket that is cancelled at its third step."""

    def tick(self, steps: int = 1) -> None:
        super().tick(steps)
        if self.finished == 3:
            self.cancel()


@pytest.mark.slow
def test_a_cancelled_map_is_not_finished(assets: Assets, tmp_path: Path) -> None:
    shutil.copy(assets.rgb_image, tmp_path / "upload")
    upload = check_upload(tmp_path / "upload", "photo.png", Limits(10**6, 10**6))
    options = {"checkpoint": str(assets.rgb_model), "engine": "torch"}
    (served,) = load_models(OmegaConf.merge(OmegaConf.load(CONFIG_DIR / "serving.yaml"), options))
    (tmp_path / "map").mkdir()
    with pytest.raises(CancelledError):
        segment_upload(served, upload, tmp_path / "map", CancelledAfterLastWindow())


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_cancelled_downloads_write_no_further_files(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    write_raster(path, np.eye(64, dtype=np.uint8)[None], nodata=255, palette={0: (0, 0, 0), 1: (255, 255, 255)})
    info = read_info(path)
    found = Segmented(Upload(path, "a", info), SceneSource(info, (1,)), path, path, class_areas(path, NAMES), [])
    with pytest.raises(CancelledError):
        write_downloads(found, NAMES, CancelledAtThirdStep())
    assert {p.suffix for p in tmp_path.iterdir()} == {".tif", ".png"}  # polygons are the third step
    assert {p.suffix for p in write_downloads(found, NAMES, Ticket()).values()} > {".geojson", ".csv"}
