"""A small valid dataset, into which tests introduce single faults."""

from pathlib import Path

import pytest
from dataset_files import PLACES, SIZE, make_image, make_mask, write


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Write ten images far from each other in folders train, val and test, with some pixels of 255 in the masks."""
    root = tmp_path / "my data (1), new=ü"
    seed = 0
    for split, number in PLACES.items():
        for _ in range(number):
            mask = make_mask(seed)
            write(root / f"{split}/images/{seed}.tif", make_image(seed, mask), east=seed * 10 * SIZE)
            mask[:2, :5] = 255
            write(root / f"{split}/masks/{seed}.tif", mask[None], east=seed * 10 * SIZE)
            seed += 1
    return root
