"""EXIF and TIFF orientation: rotated images are read upright by every reader, as Pillow does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from satseg.data.folder import FolderDataModule
from satseg.data.rasters.header import Window, read_info
from satseg.data.rasters.raster import read_image
from satseg.data.rasters.stacks import Stack, write_stack
from satseg.data.splits import Subfolder
from satseg.errors import DataError, SizeMismatchError
from satseg.inference.reading import SceneSource
from satseg.validate.checking import validate

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

HEIGHT, WIDTH = 48, 80
BACK = {
    1: None,
    2: 0,
    3: 3,
    4: 1,
    5: 5,
    6: 2,
    7: 6,
    8: 4,
}  # Pillow's inverse of Image.exif_transpose for each orientation


def picture(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return an upright photograph (h, w, 3) and its mask."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[8:30, 8 + seed : 40] = 1
    grain = np.random.default_rng(seed).integers(0, 9, (HEIGHT, WIDTH, 1))
    return (60 + 120 * mask[..., None] + grain + np.zeros(3, int)).astype(np.uint8), mask


def write_rotated(path: Path, upright: np.ndarray, orientation: int) -> Path:
    """Store an upright picture rotated, with the matching orientation tag."""
    stored, exif = Image.fromarray(upright), Image.Exif()
    if (method := BACK[orientation]) is not None:
        stored = stored.transpose(Image.Transpose(method))
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.save(path, exif=exif, quality=100, lossless=True)
    return path


@pytest.mark.parametrize("orientation", BACK)
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_pictures_of_every_orientation_are_read_upright(ending: str, orientation: int, tmp_path: Path) -> None:
    upright, _ = picture()
    path = write_rotated(tmp_path / f"a.{ending}", upright, orientation)
    expected = np.moveaxis(np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")), -1, 0).astype(int)
    assert np.abs(expected - np.moveaxis(upright, -1, 0)).max() < 9  # JPEG artefacts
    info = read_info(path)
    assert ((info.height, info.width), info.turned) == ((HEIGHT, WIDTH), orientation > 1)
    image, valid = read_image(path)
    assert valid.all() and np.abs(image.astype(int) - expected).max() < 4  # two decoders differ slightly
    for window in (Window(3, 5, 30, 20), Window(-4, 30, 20, 30)):
        part, inside = read_image(path, window)
        around = np.pad(image, ((0, 0), (8, 40), (8, 40)))
        row, col = window.row + 8, window.col + 8
        np.testing.assert_array_equal(part, around[:, row : row + window.height, col : col + window.width])
        assert inside.sum() == (part.any(0)).sum()
    with SceneSource(info, (1, 2, 3)).open() as reader:
        small, _ = reader.thumbnail(WIDTH)
        assert np.array_equal(small, image)
        assert reader.thumbnail(WIDTH // 2)[0].shape == (3, HEIGHT // 2, WIDTH // 2)
        assert np.array_equal(reader.read(Window(0, 0, WIDTH, HEIGHT))[0].numpy(), image)


def test_the_orientation_of_a_georeferenced_image_is_ignored(tmp_path: Path) -> None:
    upright, _ = picture()
    path = write_rotated(tmp_path / "a.jpg", upright, 6)
    (tmp_path / "a.jgw").write_text("1\n0\n0\n-1\n500000\n4000000\n")
    assert (read_info(path).height, read_info(path).turned) == (WIDTH, False)


@pytest.mark.parametrize("orientation", [3, 6])
def test_rotated_photographs_match_upright_masks_in_training_and_validation(orientation: int, tmp_path: Path) -> None:
    for number in range(4):
        upright, mask = picture(number)
        folder = tmp_path / ("val" if number > 2 else "train")
        write_rotated(folder / f"images/{number}.jpg", upright, orientation)
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / f"masks/{number}.png")

    def module() -> FolderDataModule:
        return FolderDataModule(tmp_path, images="*/images/*", masks="*/masks/*", split=Subfolder(), num_workers=0)

    made = module()
    made.setup()
    for sample in made.samples_of("train"):
        for _ in range(2):  # from the file, then from the cache
            image, mask, _ = made.reader.read(sample)
            assert np.array_equal(image[0] > 110, mask == 1)
    assert any("4 images, such as 0.jpg, are rotated upright" in note for note in made.assumptions)
    findings = validate(module(), workers=1, progress=False).findings
    assert [len(f.files) for f in findings if f.check == "orientation"] == [4]
    stored = Image.fromarray(picture(3)[1]).transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "val/masks/3.png")
    with pytest.raises(SizeMismatchError, match=r"80x48 pixels \(read upright, as its header says\), but"):
        module().setup()


def test_a_rotated_file_as_a_band_of_a_stack_raises_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path / "cache"))
    path = write_rotated(tmp_path / "a.jpg", picture()[0][..., 0], 3)
    with pytest.raises(DataError, match=r"a\.jpg is stored rotated, as its header says"):
        write_stack(Stack("a", {"a": path}))
