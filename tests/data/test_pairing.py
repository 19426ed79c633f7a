"""Pairing of images and masks by path, suffix and pattern."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import rasterio

from satseg.data.folder import FolderDataModule
from satseg.data.rasters.names import natural_key
from satseg.data.rasters.raster import read_window
from satseg.data.samples import Sample
from satseg.data.splits import Random
from satseg.errors import ConfigError, DataError


def fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def find_samples(root: Path, images: str, masks: str, image_suffix: str = "", mask_suffix: str = "") -> list[Sample]:
    given = {"image_suffix": image_suffix, "mask_suffix": mask_suffix, "split": Random()}
    return FolderDataModule(root, images=images, masks=masks, **given).samples()


def pairs(root: Path, *arguments: str, **options: str) -> dict[str, tuple[str, str]]:
    samples = find_samples(root, *arguments, **options)
    return {s.name: (s.image.relative_to(root).as_posix(), s.mask.relative_to(root).as_posix()) for s in samples}


def test_images_and_masks_pair_by_path_regardless_of_file_extension(tmp_path):
    fill(tmp_path, "images/a.JPG", "masks/a.png", "images/sub/a.tif", "masks/sub/a.tiff")
    assert pairs(tmp_path, "images/**/*", "masks/**/*") == {
        "a": ("images/a.JPG", "masks/a.png"),
        "sub/a": ("images/sub/a.tif", "masks/sub/a.tiff"),
    }


def test_image_and_mask_folders_may_be_in_the_middle_of_the_path(tmp_path):
    fill(
        tmp_path,
        *(
            f"Tile {i}/{kind}/x_{k}.{end}"
            for i in (1, 10, 2)
            for k in (1, 10, 2)
            for kind, end in (("images", "jpg"), ("masks", "png"))
        ),
    )
    found = pairs(tmp_path, "Tile */images/*.jpg", "Tile */masks/*.png")
    assert list(found) == [f"Tile {i}/x_{k}" for i in (1, 2, 10) for k in (1, 2, 10)]
    assert found["Tile 2/x_10"] == ("Tile 2/images/x_10.jpg", "Tile 2/masks/x_10.png")


def test_suffixes_select_files_and_are_stripped_from_names(tmp_path):
    fill(tmp_path, "Spain_1_S2Hand.tif", "Spain_1_LabelHand.tif", "Spain_1_S1Hand.tif")
    found = pairs(tmp_path, "*.tif", "*.tif", image_suffix="_S2Hand", mask_suffix="_LabelHand")
    assert found == {"Spain_1": ("Spain_1_S2Hand.tif", "Spain_1_LabelHand.tif")}


def test_split_folders_are_part_of_the_sample_name(tmp_path):
    fill(tmp_path, "train/images/a.png", "train/masks/a.png", "val/images/a.png", "val/masks/a.png")
    assert list(pairs(tmp_path, "*/images/*", "*/masks/*")) == ["train/a", "val/a"]


def test_sidecars_hidden_files_and_folders_are_not_images(tmp_path):
    fill(tmp_path, "images/a.tif", "images/a.tif.aux.xml", "images/a.tfw", "images/._a.tif", "images/Thumbs.db")
    fill(tmp_path, "masks/a.tif", "images/folder.tif/notes.txt")
    assert list(pairs(tmp_path, "images/**/*", "masks/**/*")) == ["a"]


@pytest.mark.parametrize("name", ["a b", "a,b", "a=b", "a (1)", "Zürich_東京", "v1.2 [x]", "m²", "²", "1²"])
def test_names_with_spaces_punctuation_and_unicode_are_paired(tmp_path, name):
    root = fill(tmp_path / "dätä, (x)=1 [y]", f"images/{name}.png", f"masks/{name}.png")
    assert pairs(root, "images/**/*", "masks/**/*") == {name: (f"images/{name}.png", f"masks/{name}.png")}


def test_composed_and_decomposed_unicode_names_are_paired(tmp_path):
    fill(tmp_path, "images/" + unicodedata.normalize("NFD", "é.png"), "masks/" + unicodedata.normalize("NFC", "é.png"))
    assert [s.name for s in find_samples(tmp_path, "images/*", "masks/*")] == [unicodedata.normalize("NFC", "é")]


def test_natural_sort_orders_numbers_by_value():
    assert sorted(["b1", "a10", "a9", "a09", "a"], key=natural_key) == ["a", "a09", "a9", "a10", "b1"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no image matches dataset.images=images"),
        (["images/a.png"], "no mask matches dataset.masks=masks"),
        (["images/a.png", "masks/b.png"], r"no image has a mask .*images/a\.png and masks/b\.png.*image_suffix"),
        (["images/a.png", "images/b.png", "images/c.png", "masks/a.png"], r"2 images have no mask.*images/b\.png"),
        (["images/a.png", "masks/b.png", "masks/a.png"], r"1 masks have no image.*masks/b\.png"),
        (["images/a.png", "images/a.jpg", "masks/a.png"], "the same name 'a'"),
    ],
)
def test_unpaired_files_raise_an_error_that_names_them(tmp_path, files, message):
    with pytest.raises(DataError, match=message) as error:
        find_samples(fill(tmp_path, *files), "images/**/*", "masks/**/*")
    assert str(tmp_path) in str(error.value)


def test_a_missing_root_raises_an_error_that_names_the_option(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.root=.*none is not a folder"):
        find_samples(tmp_path / "none", "images/*", "masks/*")


def test_overlapping_absolute_and_empty_patterns_raise_an_error(tmp_path):
    fill(tmp_path, "images/a.png", "masks/a.png")
    with pytest.raises(ConfigError, match=r"both match .*a\.png"):
        find_samples(tmp_path, "**/*.png", "**/*.png")
    with pytest.raises(ConfigError, match=r"relative to dataset\.root"):
        find_samples(tmp_path, "/data/images/*", "masks/*")
    with pytest.raises(ConfigError, match=r"relative to dataset\.root"):
        find_samples(tmp_path, "images/*", "")


@pytest.mark.shared
def test_the_dubai_download_gives_72_pairs(shared_dir):
    samples = find_samples(shared_dir / "data/dubai", "Tile */images/*.jpg", "Tile */masks/*.png")
    assert [s.name for s in samples] == [f"Tile {t}/image_part_{p:03}" for t in range(1, 9) for p in range(1, 10)]
    assert all(s.image.stem == s.mask.stem and s.image.parents[1] == s.mask.parents[1] for s in samples)


@pytest.mark.parametrize("masks", ["labels", "labels/"])
def test_a_folder_as_a_pattern_matches_all_files_below_it(tmp_path, masks):
    fill(tmp_path, "photos/a.tif", "photos/sub/b.tif", "labels/a.png", "labels/sub/b.png", "labels/notes.md")
    expected = {"a": ("photos/a.tif", "labels/a.png"), "sub/b": ("photos/sub/b.tif", "labels/sub/b.png")}
    assert pairs(tmp_path, "photos", masks) == expected


def test_patterns_may_match_several_folders(tmp_path):
    fill(tmp_path, "north/images/a.tif", "north/masks/a.png", "south/images/a.tif", "south/masks/a.png")
    assert list(pairs(tmp_path, "*/images", "*/masks")) == ["north/a", "south/a"]


def test_all_file_extensions_read_by_gdal_are_images_and_masks(tmp_path):
    endings = ["img", "bil", "bsq", "nc", "hdf", "h5", "gif", "tif"]
    fill(tmp_path, *(f"{kind}/{ending}.{ending}" for kind in ("images", "masks") for ending in endings))
    fill(tmp_path, "images/a.dat", "images/a.hdr", "masks/a.dat", "masks/a.dat.hdr", "images/bil.hdr", "images/log.dat")
    fill(tmp_path, "images/plain", "images/plain.hdr", "masks/plain.bin", "masks/plain.HDR", "images/README")
    found = pairs(tmp_path, "images/**/*", "masks/**/*")
    assert sorted(found) == sorted([*endings, "a", "plain"])
    assert found["a"] == ("images/a.dat", "masks/a.dat") and found["plain"] == ("images/plain", "masks/plain.bin")


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        (
            ["images/a.dat", "images/b.dat", "images/c.xyz", "masks/a.png"],
            {},
            r"no image matches dataset\.images=images/\*\*/\*: it finds only files that end in \.dat \(2\), \.xyz "
            r"\(1\), and images end in \.tif, .*\.dat with its header \(\.hdr\) beside it\.",
        ),
        (
            ["images/a.png", "images/b.xyz", "masks/a.png", "masks/b.png"],
            {},
            r"1 masks have no image, the first is masks/b\.png; .* \(images/b\.xyz was skipped: images end in",
        ),
        (["images/a.png", "masks/a.kml"], {}, r"no mask .* end in \.kml \(1\), .*polygons end in \.gpkg, \.geojson"),
        (
            ["images/a.png", "masks/a.png"],
            {"mask_suffix": "_label"},
            r"no mask matches .*: none of the 1 files that it finds ends in dataset\.mask_suffix=_label\.",
        ),
    ],
)
def test_errors_report_the_files_that_a_pattern_skips(tmp_path, files, options, expected):
    with pytest.raises(DataError, match=expected):
        find_samples(fill(tmp_path, *files), "images/**/*", "masks/**/*", **options)


def test_erdas_and_envi_files_are_read_unchanged(tmp_path):
    image, mask = np.arange(36, dtype=np.uint16).reshape(1, 6, 6), np.eye(6, dtype=np.uint8)[None] * 3
    for name, driver, array in (("images/a.img", "HFA", image), ("labels/a.dat", "ENVI", mask)):
        (tmp_path / name).parent.mkdir()
        options = {"width": 6, "height": 6, "count": 1, "dtype": array.dtype, "transform": rasterio.Affine.scale(2, -2)}
        with rasterio.open(tmp_path / name, "w", driver=driver, **options) as target:
            target.write(array)
    data = FolderDataModule(tmp_path, images="images", masks="labels", split=Random())
    (sample,) = data.samples()
    assert data.scheme().names == ("class_0", "class_3")
    np.testing.assert_array_equal(data.scheme().read(sample.mask), mask[0] // 3)
    np.testing.assert_array_equal(read_window(sample.image), image)
