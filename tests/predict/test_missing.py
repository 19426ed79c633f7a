"""Nodata of maps: the user's value overrides the file's, and the file's overrides that of the training data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from hydra import compose, initialize_config_dir
from mixed_band_rasters import KINDS, MixedRaster
from omegaconf import OmegaConf

from satseg.config import CONFIG_DIR
from satseg.data.rasters.header import Window, read_info
from satseg.data.rasters.raster import read_image
from satseg.explain.images import find_pictures
from satseg.inference.reading import SceneSource
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import read_document, save_model
from satseg.predict.models import open_models
from satseg.predict.run import predict_scenes
from satseg.spec import DatasetSpec, InputSpec

SIDE = 64
GRID = rasterio.Affine(10, 0, 500_000, 0, -10, 4e6)
EMPTY, OTHER = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
EMPTY[:, :20], OTHER[40:, 30:] = True, True  # OTHER has the nodata value of the training data, 0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model whose training data had nodata 0."""
    path = tmp_path_factory.mktemp("missing") / "model.safetensors"
    source = InputSpec(("red", "green", "blue"), "uint8", 255.0, nodata=0.0, mean=(0.5,) * 3, std=(0.2,) * 3)
    spec = DatasetSpec((source,), ("a", "b"), ((0, 0, 0), (255, 0, 0)))
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    torch.manual_seed(0)
    save_model(path, build_model(config, spec), training={}, protocol={})
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATSEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def numbers(dtype: str, empty: float, bands: int = 3) -> np.ndarray:
    image = np.random.default_rng(3).integers(50, 200, (bands, SIDE, SIDE)).astype(dtype)
    image[:, OTHER] = 0
    image[:, EMPTY] = empty
    return image


def write(path: Path, image: np.ndarray, **options: Any) -> Path:
    profile = {"driver": "GTiff", "count": len(image), "height": SIDE, "width": SIDE, "dtype": image.dtype}
    profile |= {"crs": "EPSG:32633", "transform": GRID, "photometric": "minisblack"}
    with rasterio.open(path, "w", **profile | options) as file:
        file.write(image)
    return path


def missing_in_map(model: Path, scene: Any, output: Path, **options: Any) -> np.ndarray:
    """Return where the map of a scene is nodata."""
    given = {"checkpoint": f"'{model}'", "output": f"'{output}'", "device": "cpu", "engine": "torch"}
    given |= {"preflight": "warn", "progress": False} | options
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("predict", [f"{key}={value}" for key, value in given.items()] + ["input=null"])
    cfg.input = {band: str(file) for band, file in scene.items()} if isinstance(scene, Mapping) else str(scene)
    (outcome,) = predict_scenes(cfg, open_models(cfg))
    with rasterio.open(outcome.files[0]) as file:
        assert file.nodata == 255
        return file.read(1) == 255


HEADERS = [("uint8", 255), ("float32", -9999), ("uint16", 65535), ("uint8", None)]


@pytest.mark.parametrize(("dtype", "declared"), HEADERS)
def test_a_map_is_nodata_where_its_scene_is_nodata(
    model: Path, tmp_path: Path, dtype: str, declared: float | None
) -> None:
    scene = write(tmp_path / "scene.tif", numbers(dtype, 77 if declared is None else declared), nodata=declared)
    expected = OTHER & ~EMPTY if declared is None else EMPTY  # the value of the training data if the file declares none
    assert np.array_equal(missing_in_map(model, scene, tmp_path / "map.tif"), expected)
    assert np.array_equal(missing_in_map(model, scene, tmp_path / "user.tif", nodata=0), OTHER & ~EMPTY)


@pytest.mark.parametrize(("dtype", "declared"), HEADERS)
def test_explain_uses_the_same_nodata_as_predict(
    model: Path, tmp_path: Path, dtype: str, declared: float | None
) -> None:
    spec = read_document(model).spec
    spec = DatasetSpec.from_dict({**spec.to_dict(), "inputs": [{**spec.to_dict()["inputs"][0], "dtype": dtype}]})
    scene = write(tmp_path / "scene.tif", numbers(dtype, 77 if declared is None else declared), nodata=declared)
    cfg = OmegaConf.merge(OmegaConf.load(CONFIG_DIR / "explain.yaml"), {"input": str(scene), "preflight": "warn"})
    (picture,) = find_pictures(cfg, model, spec)
    expected = OTHER & ~EMPTY if declared is None else EMPTY
    assert np.array_equal(~picture.valid[0].numpy(), expected)


@pytest.mark.parametrize("declared", [65535, None])
def test_the_nodata_values_of_separate_band_files_are_used(model: Path, tmp_path: Path, declared: int | None) -> None:
    image = numbers("uint16", 77 if declared is None else declared)
    names = ("red", "green", "blue")
    files = {n: write(tmp_path / f"{n}.tif", b[None], nodata=declared) for n, b in zip(names, image, strict=True)}
    expected = OTHER & ~EMPTY if declared is None else EMPTY
    assert np.array_equal(missing_in_map(model, files, tmp_path / "map.tif"), expected)
    assert np.array_equal(missing_in_map(model, files, tmp_path / "user.tif", nodata=0), OTHER & ~EMPTY)


@pytest.mark.parametrize(("dtype", "declared"), HEADERS)
def test_resampling_a_scene_keeps_its_nodata(model: Path, tmp_path: Path, dtype: str, declared: float | None) -> None:
    scene = write(tmp_path / "scene.tif", numbers(dtype, 77 if declared is None else declared), nodata=declared)
    expected = (OTHER & ~EMPTY if declared is None else EMPTY)[::2, ::2]  # aligned with the coarser grid
    assert np.array_equal(missing_in_map(model, scene, tmp_path / "map.tif", gsd_m=20), expected)
    user = (OTHER & ~EMPTY)[::2, ::2]
    assert np.array_equal(missing_in_map(model, scene, tmp_path / "user.tif", gsd_m=20, nodata=0), user)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_is_nodata_where_any_band_is_missing(
    model: Path, kind: Callable[[Path], MixedRaster], tmp_path: Path
) -> None:
    path, _, missing = kind(tmp_path)
    found = missing_in_map(model, path, tmp_path / "map.tif", bands="[1,2,3]", preview=True)
    assert np.array_equal(found, missing)
    resampled = missing_in_map(model, path, tmp_path / "coarse.tif", bands="[1,2,3]", gsd_m=20)
    assert np.array_equal(resampled, missing[::2, ::2])


@pytest.mark.parametrize("kind", KINDS)
def test_the_thumbnail_of_a_scene_has_the_same_valid_pixels(
    kind: Callable[[Path], MixedRaster], tmp_path: Path
) -> None:
    path, expected, missing = kind(tmp_path)
    with SceneSource(read_info(path), (1, 2, 3)).open() as reader:
        image, valid = reader.thumbnail(SIDE)
    assert np.array_equal(valid, ~missing) and np.array_equal(image, expected)


def halved(path: Path, bands: tuple[int, ...], default_nodata: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return a scene at half the resolution, and its valid pixels."""
    info = read_info(path)
    grid = replace(info, width=SIDE // 2, height=SIDE // 2, transform=tuple(GRID @ rasterio.Affine.scale(2))[:6])
    with SceneSource(grid, bands, default_nodata=default_nodata, resampled=True).open() as reader:
        image, valid = reader.read(Window(0, 0, SIDE // 2, SIDE // 2))
    return image.numpy(), valid.numpy()


def test_a_near_infrared_band_flagged_as_alpha_does_not_weight_other_bands(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(1, 4000, (4, SIDE, SIDE)).astype(np.uint16)
    image[3, :10] = 0
    path = write(tmp_path / "scene.tif", image, photometric="rgb", alpha="yes")
    assert read_info(path).validity.alpha == (4,)
    found, valid = halved(path, (1, 2, 3, 4))
    np.testing.assert_allclose(found, image.reshape(4, SIDE // 2, 2, SIDE // 2, 2).mean((2, 4)), atol=0.6)
    assert valid.all()


def test_the_nodata_of_an_unused_band_is_ignored(tmp_path: Path) -> None:
    write(tmp_path / "scene.tif", numbers("uint8", 77, bands=4))
    path = tmp_path / "scene.vrt"
    rasterio.shutil.copy(tmp_path / "scene.tif", path, driver="VRT")
    start, _, end = path.read_text().rpartition("</VRTRasterBand>")
    path.write_text(f"{start}<NoDataValue>255</NoDataValue></VRTRasterBand>{end}")
    assert read_info(path).validity.nodata == (None, None, None, 255)
    _, valid = halved(path, (1, 2, 3), default_nodata=0)
    assert np.array_equal(valid, ~(OTHER & ~EMPTY)[::2, ::2])


@pytest.mark.parametrize("mask_type", ["mask", "alpha", None])
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint16", 65535),
        ("uint16", 0),
        ("int16", -1),
        ("float32", -9999),
        ("float32", np.nan),
        ("uint8", 0),
        ("uint8", 9),
    ],
)
def test_nodata_and_mask_are_combined_when_resampling(
    dtype: str, nodata: float, mask_type: str | None, tmp_path: Path
) -> None:
    random = np.random.default_rng(5)
    image = random.integers(20, 120, (3, SIDE, SIDE)).astype(dtype)
    in_one, in_all, hidden = (np.zeros((SIDE, SIDE), bool) for _ in range(3))
    in_one[:20], in_all[40:], hidden[:, :16] = True, random.random((SIDE - 40, SIDE)) < 0.5, mask_type is not None
    image[1, in_one], image[:, in_all] = nodata, nodata
    alpha = np.where(hidden, 0, 100).astype(dtype)
    alpha[:, :8] = np.where(hidden[:, :8], rasterio.dtypes.dtype_ranges[dtype][0], 100)  # negative in a signed dtype
    bands = [*image, alpha] if mask_type == "alpha" else image
    kind = {"photometric": "rgb", "alpha": "yes"} if mask_type == "alpha" else {}
    path = write(tmp_path / "scene.tif", np.stack(bands), nodata=nodata, **kind)
    if mask_type == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
            file.write_mask(~hidden)
    missing = in_all | hidden if nodata == 0 or dtype == "uint8" else in_one | in_all | hidden
    present = ~missing.reshape(SIDE // 2, 2, SIDE // 2, 2)
    total = np.where(present, image.astype(float).reshape(3, SIDE // 2, 2, SIDE // 2, 2), 0).sum((2, 4))
    found, valid = halved(path, (1, 2, 3))
    assert np.array_equal(valid, present.any((1, 3)))
    np.testing.assert_allclose(found[:, valid], (total / present.sum((1, 3)).clip(1))[:, valid], atol=0.6)
    _, stored = read_image(path, bands=(1, 2, 3))
    assert np.array_equal(stored, ~missing)


def test_a_large_int64_nodata_value_is_exact_when_resampling(tmp_path: Path) -> None:
    image = np.random.default_rng(6).integers(20, 120, (3, SIDE, SIDE))
    image[:, :20] = -(2**63)
    path = write(tmp_path / "scene.tif", image)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(~OTHER)
    rasterio.shutil.copy(path, tmp_path / "scene.vrt", driver="VRT")
    vrt = (tmp_path / "scene.vrt").read_text()  # insert the exact value, which rasterio cannot write
    declared = re.sub(r'(<VRTRasterBand dataType="Int64"[^>]*>)', rf"\1<NoDataValue>{-(2**63)}</NoDataValue>", vrt)
    (tmp_path / "scene.vrt").write_text(declared)
    _, valid = halved(tmp_path / "scene.vrt", (1, 2, 3))
    missing = OTHER.copy()
    missing[:20] = True
    assert np.array_equal(valid, ~missing[::2, ::2])
