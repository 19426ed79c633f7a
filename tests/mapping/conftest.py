"""Class maps written with rasterio."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

ClassMapWriter = Callable[..., Path]


@pytest.fixture(scope="session")
def class_map(tmp_path_factory: pytest.TempPathFactory) -> ClassMapWriter:
    """Return a function that writes a uint8 map with nodata 255; its options are those of `rasterio.open`."""
    folder, count = tmp_path_factory.mktemp("maps"), iter(range(1_000_000))

    def write(array: np.ndarray, **options: Any) -> Path:
        path = folder / f"{next(count)}.tif"
        profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255} | options
        height, width = array.shape
        with rasterio.open(path, "w", height=height, width=width, **profile) as target:
            target.write(array.astype(profile["dtype"]), 1)
        return path

    return write
