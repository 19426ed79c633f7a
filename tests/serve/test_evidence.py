"""The part of a large image that is explained, and the reported size of the class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from satseg.data.rasters.header import read_info
from satseg.data.rasters.writing import write_raster
from satseg.inference.reading import SceneSource
from satseg.mapping import ClassArea
from satseg.serve.evidence import SIDE, ExplainRequest, part_of
from satseg.serve.page import fragments
from satseg.serve.segmenting import Segmented
from satseg.serve.uploads import Upload


def write_segmented(folder: Path, classes: np.ndarray) -> Segmented:
    """Write a map with mode overviews, as `satseg.predict` does."""
    write_raster(folder / "plain.tif", classes[None], nodata=255)
    path = folder / "map.tif"
    rasterio.shutil.copy(folder / "plain.tif", path, driver="COG", blocksize=512, overview_resampling="MODE")
    info = read_info(path)
    return Segmented(Upload(path, "map.tif", info), SceneSource(info, (1,)), path, path, [], [])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_window_with_most_pixels_of_a_thin_class_is_explained(tmp_path: Path) -> None:
    classes = np.zeros((2900, 3300), np.uint8)
    classes[2000:2002, 100:3200] = 1  # a road of two pixels
    classes[1500:2500, 2600:2602] = 1  # and a road that crosses it
    found = write_segmented(tmp_path, classes)
    window = part_of(found, ExplainRequest(1, None, "gradcam", "auto"))
    assert (window.width, window.height) == (SIDE, SIDE)
    seen = np.count_nonzero(classes[window.row :, window.col :][:SIDE, :SIDE])
    every = [
        np.count_nonzero(classes[row : row + SIDE, col : col + SIDE])
        for row in range(0, 2900 - SIDE + 1, SIDE // 2)
        for col in range(0, 3300 - SIDE + 1, SIDE // 2)
    ]
    assert seen == max(every) > 3000


def test_a_class_with_few_pixels_gives_a_warning() -> None:
    pixels = {"sand": 70_000, "road": 4_000, "tree": 2, "lake": 0}
    areas = [ClassArea(name, count, count / 74_002, None) for name, count in pixels.items()]
    sand, road, tree, lake = (fragments.basis(areas, target) for target in range(4))
    assert "70,000 pixels" in sand and "94.6 %" in sand and "more than any other" in sand and "warning" not in sand
    assert "4,000 pixels" in road and "more than any other" not in road and "warning" not in road
    assert "warning" in tree and "only 2 pixels" in tree
    assert "warning" in lake and "does not occur" in lake
