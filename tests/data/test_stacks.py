"""Bands in separate files: discovery, stacking and resampling, against rasterio's resampling."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from commands import command
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from rasterio.enums import Resampling
from rasterio.warp import reproject

from satseg.config import CONFIG_DIR
from satseg.data.folder import FolderDataModule
from satseg.data.rasters.header import Window, read_info
from satseg.data.rasters.inputs import find_inputs, source_name
from satseg.data.rasters.raster import read_image, read_window
from satseg.data.rasters.stacks import find_stacks
from satseg.data.samples import Sample
from satseg.data.splits import List, Random, Subfolder
from satseg.errors import ConfigError, DataError, RasterReadError
from satseg.explain.images import find_pictures
from satseg.spec import DatasetSpec

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

RNG = np.random.default_rng(11)
SIZES = {"B02": 10, "B03": 10, "B8A": 20, "B01": 60}  # metres
GRID = rasterio.Affine(10, 0, 500_000, 0, -10, 4_600_000)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache (1), ü=x")
    monkeypatch.setenv("SATSEG_CACHE", str(folder))
    return folder


def write_band(
    path: Path, array: np.ndarray, gsd: float = 10, shift: tuple[float, float] = (0, 0), **options: object
) -> Path:
    """Write a band with rasterio; `shift` is in pixels of 10 m."""
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = GRID @ rasterio.Affine.translation(*shift) @ rasterio.Affine.scale(gsd / 10)
    profile = {"driver": "GTiff", "count": 1, "dtype": array.dtype, "crs": "EPSG:32633", "transform": transform}
    profile |= {"height": array.shape[0], "width": array.shape[1]} | options
    with rasterio.open(path, "w", **profile) as target:
        target.write(array, 1)
    return path


def numbers(size: int, dtype: str = "uint16") -> np.ndarray:
    return RNG.integers(1, 10_000 if dtype != "uint8" else 250, (size, size)).astype(dtype)


def write_sentinel_2(folder: Path, name: str, size: int = 120, **options: object) -> dict[str, np.ndarray]:
    """Write an image with the resolutions and folders of Sentinel-2 products; return its bands."""
    arrays = {b: numbers(size * 10 // gsd) for b, gsd in SIZES.items()}
    for b, gsd in SIZES.items():
        write_band(folder / f"R{gsd}m" / f"{name}_{b}_{gsd}m.tif", arrays[b], gsd, **options)
    return arrays


def patterns(folder: Path, *bands: str) -> dict[str, str]:
    return {b: str(folder / f"R{SIZES[b]}m" / f"*_{b}_{SIZES[b]}m.tif") for b in bands or SIZES}


def warped(path: Path, size: int, dtype: str = "uint16", **options: object) -> np.ndarray:
    """Return a band resampled by GDAL's warper alone."""
    result = np.zeros((size, size), dtype)
    with rasterio.open(path) as source:
        reproject(
            rasterio.band(source, 1),
            result,
            dst_transform=GRID,
            dst_crs="EPSG:32633",
            resampling=Resampling.bilinear,
            **options,
        )
    return result


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("tile")
    return folder, write_sentinel_2(folder, "T32_2020", size=1020)


def test_fine_bands_are_copied_exactly_and_coarse_ones_resampled_bilinearly(
    tile: tuple[Path, dict[str, np.ndarray]],
) -> None:
    folder, arrays = tile
    (path,) = find_inputs(patterns(folder))
    info, whole = read_info(path), read_window(path)
    assert (source_name(path), info.band_names, info.dtype, info.nodata) == ("T32_2020", tuple(SIZES), "uint16", None)
    assert (info.transform, info.gsd_m, whole.shape) == (tuple(GRID)[:6], 10.0, (4, 1020, 1020))
    assert rasterio.CRS.from_wkt(info.crs).to_epsg() == 32633
    np.testing.assert_array_equal(whole[:2], [arrays["B02"], arrays["B03"]])
    for number, b in ((2, "B8A"), (3, "B01")):
        with rasterio.open(folder / f"R{SIZES[b]}m/T32_2020_{b}_{SIZES[b]}m.tif") as source:
            expected = source.read(1, out_shape=(1020, 1020), resampling=Resampling.bilinear)
        assert np.abs(whole[number].astype(int) - expected).max() <= 1  # rounding
        assert (whole[number] == expected).mean() > 0.98


@given(st.integers(-20, 1030), st.integers(-20, 1030), st.integers(1, 600), st.integers(1, 600))
def test_every_window_equals_the_same_part_of_the_whole_raster(tile, col, row, width, height) -> None:
    (path,) = find_inputs(patterns(tile[0]))
    whole = np.pad(read_window(path), ((0, 0), (20, 640), (20, 640)))
    part = whole[:, row + 20 : row + 20 + height, col + 20 : col + 20 + width]
    np.testing.assert_array_equal(read_window(path, Window(col, row, width, height)), part)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_nodata_does_not_bleed_into_resampled_neighbours(tmp_path: Path, dtype: str) -> None:
    fine, coarse = numbers(120, dtype), numbers(20, dtype)
    coarse[:8], fine[:48], coarse[12, 12] = 0, 0, 0
    write_band(tmp_path / "a_B02.tif", fine, nodata=0)
    path = write_band(tmp_path / "a_B01.tif", coarse, 60, nodata=0)
    named = {"B02": str(tmp_path / "*_B02.tif"), "B01": str(tmp_path / "*_B01.tif")}
    (stack,) = find_inputs(named)
    image, valid = read_image(stack)
    expected = warped(path, 120, dtype, src_nodata=0, dst_nodata=0)
    np.testing.assert_allclose(image[1].astype(float), expected.astype(float), atol=0 if dtype == "float32" else 1)
    np.testing.assert_array_equal(image[1] == 0, np.kron(coarse == 0, np.ones((6, 6), bool)))
    assert read_info(stack).nodata == 0 and not valid[:48].any() and valid[48:].all()
    for window in (Window(5, 40, 70, 30), Window(70, 70, 13, 11)):
        part = image[:, window.row : window.row + window.height, window.col : window.col + window.width]
        np.testing.assert_array_equal(read_window(stack, window), part)
    for file in tmp_path.glob("*.tif"):
        with rasterio.open(file, "r+") as target:
            target.nodata = None
    (undeclared,), (declared,) = find_inputs(named), find_inputs(named, nodata=0)
    assert 0 < read_window(undeclared)[1, 49, 3] < image[1, 49, 3]
    np.testing.assert_array_equal(read_window(declared), image)


@pytest.mark.parametrize("shift", [(0.5, -0.5), (2, 1.25), (-3, -3), (-1.25, 3)])
def test_a_shifted_coarse_band_is_georeferenced_correctly_and_extended_to_the_whole_grid(
    tmp_path: Path, shift: tuple[float, float]
) -> None:
    fine, coarse = numbers(120, "float32"), numbers(20, "float32")
    write_band(tmp_path / "B02.tif", fine)
    path = write_band(tmp_path / "B01.tif", coarse, 60, shift)
    (stack,) = find_inputs({"B01": tmp_path / "B01.tif", "B02": str(tmp_path / "B02.tif")})
    whole, expected = read_window(stack), warped(path, 120, "float32")
    np.testing.assert_array_equal(whole[1], fine)
    covered = expected != 0
    assert covered.mean() > 0.9 and whole[0].min() >= coarse.min()
    edges = np.ones((120, 120), bool)
    edges[3:-3, 3:-3] = False  # the outermost half of a coarse pixel has the nearest value
    np.testing.assert_allclose(whole[0][covered & ~edges], expected[covered & ~edges], rtol=1e-5)
    assert np.isin(whole[0][~covered], coarse).all()


def test_a_mask_band_of_the_finest_band_marks_invalid_pixels(tmp_path: Path) -> None:
    fine, mask = numbers(60), np.full((60, 60), 255, np.uint8)
    mask[:7, 5:] = 0
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(write_band(tmp_path / "B02.tif", fine), "r+") as target,
    ):
        target.write_mask(mask)
    write_band(tmp_path / "B8A.tif", numbers(30), 20)
    (stack,) = find_inputs({"B8A": str(tmp_path / "B8A.tif"), "B02": str(tmp_path / "B02.tif")})
    np.testing.assert_array_equal(read_image(stack)[1], mask > 0)
    np.testing.assert_array_equal(read_image(stack, Window(3, 2, 9, 9))[1], mask[2:11, 3:12] > 0)


def test_files_are_grouped_into_images_by_what_the_wildcards_match(tmp_path: Path) -> None:
    root = tmp_path / "dätä [1], (x)=1"
    for name in ("T33_2", "T33_10", "T32_2020"):
        write_sentinel_2(root, name, 12)
    (root / "R10m/._T99_B02_10m.tif").write_bytes(b"")
    (root / "R10m/T98_B02_10m.tif.aux.xml").write_bytes(b"")
    found = find_inputs(patterns(root, "B8A", "B02"))
    assert [source_name(path) for path in found] == ["T32_2020", "T33_2", "T33_10"]
    assert {read_info(path).band_names for path in found} == {("B8A", "B02")}


def test_sentinel_2_products_are_found_in_their_original_folders(tmp_path: Path) -> None:
    for product in ("S2A_MSIL2A_2020", "S2B_MSIL2A_2021"):
        write_sentinel_2(tmp_path / f"{product}.SAFE/GRANULE/L2A_T32/IMG_DATA", "T32_x", 12)
    named = {b: f"{tmp_path}/*.SAFE/GRANULE/*/IMG_DATA/R{SIZES[b]}m/*_{b}_*m.tif" for b in ("B02", "B03")}
    stacks = find_stacks(named)
    assert [s.name for s in stacks] == ["S2A_MSIL2A_2020/L2A_T32/T32_x_10", "S2B_MSIL2A_2021/L2A_T32/T32_x_10"]
    assert [source_name(path) for path in find_inputs(named)] == [s.name.replace("/", "_") for s in stacks]
    anywhere = {b: f"{tmp_path}/**/*_{b}_{SIZES[b]}m.tif" for b in SIZES}
    with pytest.raises(DataError, match="lacks the band"):  # the wildcards match different folders, R10m and R20m
        find_stacks(anywhere)
    assert len(find_stacks({b: anywhere[b] for b in ("B02", "B03")})) == 2


def test_files_without_wildcards_form_one_image(tmp_path: Path) -> None:
    write_sentinel_2(tmp_path, "T32_2020", 12)
    one = {b: str(tmp_path / f"R{SIZES[b]}m/T32_2020_{b}_{SIZES[b]}m.tif") for b in ("B02", "B03")}
    (path,) = find_inputs(one)
    assert source_name(path) == "T32_2020"
    photographs = {"a": tmp_path / "x.tif", "b": tmp_path / "y.tif"}
    for file in photographs.values():
        with rasterio.open(file, "w", driver="GTiff", count=1, width=5, height=4, dtype="uint8") as target:
            target.write(np.ones((1, 4, 5), np.uint8))
    (path,) = find_inputs(photographs)
    assert (source_name(path), read_info(path).crs, read_window(path).tolist()) == (
        "x",
        None,
        np.ones((2, 4, 5)).tolist(),
    )


@pytest.mark.parametrize("gsd", [10, 20])
def test_a_stack_of_optical_and_radar_bands_keeps_the_values_and_nodata_of_both(tmp_path: Path, gsd: int) -> None:
    optical, radar = numbers(12), RNG.uniform(-30, 5, (120 // gsd, 120 // gsd)).astype(np.float32)
    optical[:2], radar[-2:] = 0, -9999
    files = {"B02": write_band(tmp_path / "B02.tif", optical, nodata=0), "VV": tmp_path / "VV.tif"}
    write_band(files["VV"], radar, gsd, nodata=-9999)
    (path,) = find_inputs(files)
    image, valid = read_image(path)
    known = valid.any(1)
    assert image.dtype == np.float32 and np.isnan(read_info(path).nodata)
    assert not known[:2].any() and not known[-2:].any() and known[2:-4].all()
    np.testing.assert_array_equal(image[0, 2:], optical[2:].astype(np.float32))
    if gsd == 10:
        np.testing.assert_array_equal(image[1, :-2], radar[:-2])
    assert image[1][valid].min() >= -30 and image[1][valid].max() <= 5


@pytest.mark.parametrize("gsd", [10, 20])
def test_integer_bands_keep_their_own_nodata_values(tmp_path: Path, gsd: int) -> None:
    one, two = numbers(12), numbers(120 // gsd)
    one[0], one[3], two[-1], two[0] = 65535, 65000, 65000, 65535  # each also contains the other's nodata value as data
    files = {
        "a": write_band(tmp_path / "a.tif", one, nodata=65535),
        "b": write_band(tmp_path / "b.tif", two, gsd, nodata=65000),
    }
    (path,) = find_inputs(files)
    image, valid = read_image(path)
    known = [False] + [True] * (11 - gsd // 10) + [False] * (gsd // 10)
    np.testing.assert_array_equal(valid, np.repeat(np.array(known)[:, None], 12, axis=1))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[0], one)
    np.testing.assert_array_equal(image[1], two if gsd == 10 else warped(tmp_path / "b.tif", 12, dst_nodata=65000))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("lacking", r"b lacks the band B8A: no file of .*\*_B8A_20m\.tif belongs to .*b_B02_10m\.tif"),
        ("none", r"input\.B8A=.*B8A_20m\.tif: there is no such raster"),
        ("crs", r"a_B8A_20m\.tif and .*a_B02_10m\.tif differ in their coordinate reference system"),
        ("elsewhere", r"a_B8A_20m\.tif and .*a_B02_10m\.tif do not cover the same area"),
        ("smaller", r"a_B8A_20m\.tif and .*a_B02_10m\.tif do not cover the same area"),
        ("turned", r"a_B8A_20m\.tif and .*a_B02_10m\.tif are rotated"),
        ("unplaced", r"a_B8A_20m\.tif has no georeference, unlike .*a_B02_10m\.tif"),
        ("bands", r"a_B8A_20m\.tif has 2 bands"),
        ("broken", r"a_B8A_20m\.tif cannot be read"),
        ("same", r"the bands B02 and again are both .*a_B02_10m\.tif"),
        ("two", r"both a; make the pattern narrower"),
        ("absent pattern", r"input\.B8A=None: expected a file or a pattern"),
        ("wrong pattern", r"input\.B8A=a\*\*b.*cannot be used"),
    ],
)
def test_files_that_cannot_be_stacked_raise_an_error_that_names_them(
    tmp_path: Path, change: str, expected: str
) -> None:
    a, _ = (write_sentinel_2(tmp_path, name, 60, nodata=0) for name in "ab")
    named: dict = patterns(tmp_path, "B02", "B8A")
    path, array = tmp_path / "R20m/a_B8A_20m.tif", a["B8A"]
    if change == "lacking":
        (tmp_path / "R20m/b_B8A_20m.tif").unlink()
    elif change == "none":
        shutil.rmtree(tmp_path / "R20m")
    elif change == "crs":
        write_band(path, array, 20, crs="EPSG:32632")
    elif change == "elsewhere":
        write_band(path, array, 20, (1.1, 0))
    elif change == "smaller":
        write_band(path, array[:28], 20)
    elif change == "turned":
        write_band(path, array, 20, transform=GRID @ rasterio.Affine.rotation(5) @ rasterio.Affine.scale(2))
    elif change == "unplaced":
        with rasterio.open(path, "w", driver="GTiff", count=1, width=30, height=30, dtype="uint16", crs="EPSG:32633"):
            pass
    elif change == "bands":
        with rasterio.open(path, "w", driver="GTiff", count=2, width=30, height=30, dtype="uint16"):
            pass
    elif change == "broken":
        path.write_bytes(b"no raster")
    elif change == "same":
        named["again"] = named["B02"]
    elif change == "two":
        write_band(tmp_path / "R10m/a_B02_10m.tiff", a["B02"])
        named["B02"] = str(tmp_path / "R10m/*_B02_10m.*")
    elif change == "absent pattern":
        named["B8A"] = None
    elif change == "wrong pattern":
        named["B8A"] = "a**b/*"
    with pytest.raises((DataError, ConfigError), match=expected) as error:
        find_inputs(named)
    assert "\n" not in str(error.value)


def test_a_stack_is_cached_and_written_again_when_a_file_changes(tmp_path: Path, cache: Path) -> None:
    write_sentinel_2(tmp_path, "a", 12)
    (first,) = find_inputs(patterns(tmp_path))
    written = first.stat().st_mtime_ns
    assert find_inputs(patterns(tmp_path)) == [first] and first.stat().st_mtime_ns == written
    assert first.is_relative_to(cache) and not list(cache.rglob("*.tmp*"))
    changed = numbers(24)
    write_band(tmp_path / "R10m/a_B02_10m.tif", changed)
    for b in ("B03", "B8A", "B01"):
        write_band(tmp_path / f"R{SIZES[b]}m/a_{b}_{SIZES[b]}m.tif", numbers(240 // SIZES[b]), SIZES[b])
    (second,) = find_inputs(patterns(tmp_path))
    assert second != first
    np.testing.assert_array_equal(read_window(second)[0], changed)


def training_set(root: Path, size: int = 64, count: int = 8) -> dict[str, str]:
    """Write a dataset of two bands and masks; return the patterns of the bands."""
    for number in range(count):
        split = "train" if number < count - 2 else "val"
        mask = (RNG.random((size // 16, size // 16)) < 0.5).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        write_band(root / split / f"images/{number}_B02.tif", numbers(size) // 20 + mask * np.uint16(1000))
        write_band(root / split / f"images/{number}_B8A.tif", numbers(size // 2), 20)
        write_band(root / split / f"masks/{number}.tif", mask)
    return {b: f"*/images/*_{b}.tif" for b in ("B02", "B8A")}


def stack_samples(root: Path, images: dict[str, str], masks: str, mask_suffix: str = "") -> list[Sample]:
    return FolderDataModule(root, images=images, masks=masks, mask_suffix=mask_suffix, split=Random()).samples()


def test_masks_are_paired_with_what_the_wildcards_match(tmp_path: Path) -> None:
    images = training_set(tmp_path)
    samples = stack_samples(tmp_path, images, "*/masks/*.tif")
    assert [s.name for s in samples] == [*(f"train/{n}" for n in range(6)), "val/6", "val/7"]
    assert all(s.mask == tmp_path / f"{s.name.split('/')[0]}/masks/{s.name.split('/')[1]}.tif" for s in samples)
    assert [f.name for f in samples[0].band_files] == ["0_B02.tif", "0_B8A.tif"]
    for mask in tmp_path.rglob("masks/*.tif"):
        mask.rename(mask.with_name(f"{mask.stem}_label.tif"))
    assert [s.name for s in stack_samples(tmp_path, images, "*/masks/*", "_label")] == [s.name for s in samples]
    with pytest.raises(DataError, match=r"ends in dataset\.mask_suffix=_truth"):
        stack_samples(tmp_path, images, "*/masks/*", "_truth")
    with pytest.raises(
        DataError, match=r"no image has a mask of the same name.*0_B02\.tif and .*0_label\.tif.*mask_suffix"
    ):
        stack_samples(tmp_path, images, "*/masks/*")
    with pytest.raises(ConfigError, match=r"both match .*0_B02\.tif"):
        stack_samples(tmp_path, images, "*/images/*_B02.tif")
    with pytest.raises(ConfigError, match=r"dataset\.images\.B02=/data.*relative to dataset\.root"):
        stack_samples(tmp_path, {"B02": "/data/*_B02.tif"}, "*/masks/*")
    with pytest.raises(ConfigError, match=r"dataset\.image_suffix=_x"):
        FolderDataModule(tmp_path, images=images, image_suffix="_x", split=Random())
    with pytest.raises(RasterReadError, match=r"3_B8A\.tif"):
        (tmp_path / "train/images/3_B8A.tif").write_bytes(b"")
        stack_samples(tmp_path, images, "*/masks/*", "_label")


def test_splits_and_fingerprint_depend_on_the_original_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = training_set(tmp_path / "data")
    (tmp_path / "data/train.txt").write_text("train/0\ntrain/images/1_B02.tif\n")
    (tmp_path / "data/val.txt").write_text("val/6\n")

    def module(split: object, root: str = "data") -> FolderDataModule:
        return FolderDataModule(tmp_path / root, images=images, masks="*/masks/*.tif", split=split, num_workers=0)

    by_folder = module(Subfolder())
    assert {k: len(v) for k, v in by_folder.splits.items()} == {"train": 6, "val": 2, "test": 0}
    assert by_folder.spec.inputs[0].bands == ("B02", "B8A") and by_folder.spec.inputs[0].gsd_m == 10
    assert module(List(test=None)).manifest()["splits"] == {
        "train": ["train/0", "train/1"],
        "val": ["val/6"],
        "test": [],
    }
    shutil.copytree(tmp_path / "data", tmp_path / "elsewhere")
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path / "cache"))
    assert module(Subfolder(), "elsewhere").fingerprint == by_folder.fingerprint
    write_band(tmp_path / "elsewhere/val/images/7_B8A.tif", numbers(32), 20)
    assert module(Subfolder(), "elsewhere").fingerprint != by_folder.fingerprint


def test_a_model_trained_on_separate_band_files_finds_its_bands_by_name(tmp_path: Path) -> None:
    root = tmp_path / "my data"
    images = training_set(root)
    named = ", ".join(f'{b}: "{p}"' for b, p in images.items())
    done = command(
        "train",
        *("dataset=folder", "dataset/split=subfolder", f"dataset.root={root}", f"dataset.images={{{named}}}"),
        *("dataset.masks=*/masks/*.tif", "dataset.patch_size=64", "dataset.batch_size=2", "dataset.num_workers=0"),
        *("model=fpn", "backbone=mobilenetv4_conv_small", "backbone.weights=none", "trainer=debug", "run_dir=run"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    recorded = json.loads((tmp_path / "run/data.json").read_text())
    assert recorded["spec"]["inputs"][0]["bands"] == ["B02", "B8A"]
    assert recorded["splits"]["val"] == ["val/6", "val/7"]
    assert "8 pairs of */images/*_B02.tif, */images/*_B8A.tif and */masks/*.tif" in done.stderr
    swapped = {b: f"{root}/val/images/*_{b}.tif" for b in ("B8A", "B02")}
    cfg = OmegaConf.merge(OmegaConf.load(CONFIG_DIR / "explain.yaml"), {"input": swapped, "preflight": "warn"})
    pictures = list(find_pictures(cfg, tmp_path / "run", DatasetSpec.from_dict(recorded["spec"])))
    assert [picture.name for picture in pictures] == ["6", "7"]
    for picture in pictures:  # although the input lists them in another order
        np.testing.assert_array_equal(picture.image[0, 0], read_window(root / f"val/images/{picture.name}_B02.tif")[0])


def test_a_folder_for_each_band_matches_all_its_files(tmp_path: Path) -> None:
    for name in ("x", "y"):
        for number, folder in enumerate(("B02", "B03")):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_band(tmp_path / folder / f"{name}.tif", np.full((12, 12), number + 1, np.uint16))
    found = find_inputs({name: str(tmp_path / name) for name in ("B02", "B03")})
    assert [source_name(path) for path in found] == ["x", "y"]
    assert [read_window(path)[:, 0, 0].tolist() for path in found] == [[1, 2], [1, 2]]


def test_a_stack_declares_the_scales_and_offsets_of_its_files_without_applying_them(tmp_path: Path) -> None:
    stored = write_sentinel_2(tmp_path, "T32_2022", size=60)
    for size, offset in ((10, -0.1), (60, -0.2)):
        for path in (tmp_path / f"R{size}m").glob("*.tif"):
            with rasterio.open(path, "r+") as file:
                file.scales, file.offsets = (1e-4,), (offset,)
    (path,) = find_inputs(patterns(tmp_path))
    declared = {"B02": -0.1, "B03": -0.1, "B8A": None, "B01": -0.2}
    assert read_info(path).scale_offsets == tuple((1.0, 0.0) if o is None else (1e-4, o) for o in declared.values())
    np.testing.assert_array_equal(read_window(path)[0], stored["B02"])  # not applied
