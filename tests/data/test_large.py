"""Memory use of training on one large scene, which is read by windows."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

CODE = """
import resource, sys
from pathlib import Path
from satseg.data import reader
from satseg.data.folder import FolderDataModule
from satseg.data.sampling.locations import Balanced
from satseg.data.splits import Blocks

reader.WHOLE_FILE_PIXELS = 1_000_000
for root in sys.argv[1:]:
    data = FolderDataModule(Path(root), split=Blocks(500, 50), sampler=Balanced(), num_workers=0,
                            patch_size=128, batch_size=2, patches_per_epoch=200)
    data.setup()
    assert data.class_counts[1] == 1000 and data.fingerprint
    seen = [batch["mask"].eq(1).any().item() for batch in data.train_dataloader()]
    assert sum(seen) > 20 and len(list(data.val_dataloader())) > 0
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_scene(root: Path, size: int) -> None:
    """Write a sparse scene with 1000 pixels of a rare class in the middle of a block."""
    profile = {"driver": "GTiff", "dtype": "uint8", "height": size, "width": size, "tiled": True, "sparse_ok": True}
    profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4.6e6), "compress": "deflate"}
    for kind, count in (("images", 4), ("masks", 1)):
        (root / kind).mkdir(parents=True)
        with rasterio.open(root / kind / "scene.tif", "w", count=count, photometric="minisblack", **profile) as target:
            for band in range(1, count + 1):
                target.write(np.ones((20, 50), np.uint8), band, window=Window(200, 740, 50, 20))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_size_of_the_scene(tmp_path: Path) -> None:
    for size in (1500, 5000):  # the second would take 125 MB if it were decoded as a whole
        write_scene(tmp_path / str(size), size)
    arguments = [sys.executable, "-c", CODE, str(tmp_path / "1500"), str(tmp_path / "5000")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GDAL_CACHEMAX": "16"}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    assert second - first < 30_000  # kilobytes
