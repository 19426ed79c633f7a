"""The preflight check of scenes that differ from the training data, and its advice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from commands import command, error_line
from dataset_files import make_image, make_mask

from satseg.data.rasters.header import Window, read_info
from satseg.data.rasters.opening import quiet
from satseg.data.rasters.raster import read_window
from satseg.inference.preflight import inspect
from satseg.inference.reading import SceneSource, scene_header
from satseg.inference.value_checks import Findings
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import save_model
from satseg.spec import BandStatistics, DatasetSpec, InputSpec

BANDS = ("blue", "green", "red", "nir")
UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5e6)}


def statistics(pixels: np.ndarray) -> BandStatistics:
    numbers = [pixels.min(1), pixels.max(1), pixels.mean(1), pixels.std(1), *np.percentile(pixels, (2, 98), axis=1)]
    return BandStatistics(*(tuple(map(float, n)) for n in numbers))


def images() -> list[np.ndarray]:
    """Return training images with 12-bit values."""
    return [make_image(seed, make_mask(seed)) for seed in range(6)]


def write(path: Path, image: np.ndarray, tags: tuple[float, float] | None = None, **profile: object) -> Path:
    options = UTM | {"count": len(image), "height": image.shape[1], "width": image.shape[2], "dtype": image.dtype}
    with rasterio.open(path, "w", driver="GTiff", photometric="minisblack", **options | profile) as file:
        file.write(image)
        file.descriptions = BANDS[: len(image)]
        if tags is not None:
            file.scales, file.offsets = [tags[0]] * len(image), [tags[1]] * len(image)
    return path


def save_untrained(folder: Path, source: InputSpec) -> Path:
    """Save a model with random weights for an input spec."""
    spec = DatasetSpec((source,), ("a", "b", "c"), tuple((i, i, i) for i in range(3)))
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    torch.manual_seed(0)
    save_model(folder / "model.safetensors", build_model(config, spec), training={}, protocol={})
    return folder / "model.safetensors"


def source_of(images: list[np.ndarray], dtype: str = "uint16") -> InputSpec:
    known = statistics(np.concatenate([i.reshape(len(i), -1) for i in images], axis=1))
    numbers = {"mean": tuple(v / known.p98[0] for v in known.mean), "std": tuple(v / known.p98[0] for v in known.std)}
    return InputSpec(BANDS[: len(known.mean)], dtype, known.p98[0], gsd_m=10.0, statistics=known, **numbers)


def read(scene: SceneSource) -> np.ndarray:
    with scene.open() as reader:
        return reader.read(Window(0, 0, scene.info.width, scene.info.height))[0].numpy()


CHANGES = {  # a change of the stored values, and the options that undo it
    "offset": (lambda i: i + 1000, "offset=-1000"),
    "lower": (lambda i: i.astype(np.int16) - 1000, "offset=1000"),
    "ten times": (lambda i: i * 10, "scale=0.1"),
    "a tenth": (lambda i: i.astype(np.float32) / 10, "scale=10"),
    "reflectance": (lambda i: (i / 1e4).astype(np.float32), "scale=10000"),
    "reflectance and offset": (lambda i: (i / 1e4 + 0.1).astype(np.float32), "scale=10000 offset=-1000"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_scene_with_shifted_or_scaled_values_is_stopped_with_options_that_undo_it(
    tmp_path: Path, change: str
) -> None:
    function, advice = CHANGES[change]
    image, source = make_image(0, make_mask(0)), source_of(images())
    scene = SceneSource(read_info(write(tmp_path / "scene.tif", function(image))), (1, 2, 3, 4))
    found = inspect(scene, source)
    (error,) = found.errors
    assert error.endswith(f"; set {advice}.") and not found.warnings
    options = {key: float(value) for key, value in (option.split("=") for option in advice.split())}
    undone = replace(scene, **options)
    assert inspect(undone, source) == Findings()
    np.testing.assert_allclose(read(undone), image, atol=0.01)
    plain = SceneSource(read_info(write(tmp_path / "plain.tif", image)), (1, 2, 3, 4))
    assert inspect(plain, source) == Findings()


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda i: (i / 255).astype(np.float32), "scale=255"),
        (lambda i: i.astype(np.uint16) * 257, "scale=0.00389105"),
    ],
)
@pytest.mark.parametrize("brightness", [1.0, 0.9])
def test_8_bit_images_stored_as_fractions_or_16_bits_get_the_exact_scale_as_advice(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], advice: str, brightness: float
) -> None:
    pictures = [(i[:3] / 16).clip(0, 255).astype(np.uint8) for i in images()]
    image = change((pictures[0] * brightness).astype(np.uint8))
    scene = SceneSource(read_info(write(tmp_path / "scene.tif", image)), (1, 2, 3))
    found = inspect(scene, source_of(pictures, "uint8"))
    (error,) = found.errors
    assert error.endswith(f"; set {advice}."), error


def test_a_shifted_scene_gives_the_original_map_with_the_advised_option(tmp_path: Path) -> None:
    image, model = make_image(0, make_mask(0)), save_untrained(tmp_path, source_of(images()))
    scene = write(tmp_path / "scene.tif", image + np.uint16(1000))
    options = [f"checkpoint={model}", "engine=torch", "progress=false"]
    message = error_line("predict", *options, f"input={scene}", "output=m.tif", cwd=tmp_path)
    assert "scene.tif: values are about 1000 higher than in training" in message
    assert "; set offset=-1000, or preflight=warn" in message
    assert not (tmp_path / "m.tif").exists()
    maps = []
    for path, *advice in ((write(tmp_path / "plain.tif", image),), (scene, "offset=-1000")):
        done = command("predict", *options, f"input={path}", f"output={path}.map.tif", *advice, cwd=tmp_path)
        assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
        with rasterio.open(f"{path}.map.tif") as file:
            maps.append(file.read())
    assert np.array_equal(*maps)


def test_an_undeclared_border_neither_hides_a_shift_nor_looks_like_one(tmp_path: Path) -> None:
    image, source = make_image(0, make_mask(0)), source_of(images())
    plain, shifted = image.copy(), image + np.uint16(1000)
    for fill in (0, 65535):
        plain[:, :, :30] = shifted[:, :, :30] = fill
        scene = write(tmp_path / f"{fill}.tif", plain)
        assert inspect(SceneSource(read_info(scene), (1, 2, 3, 4)), source) == Findings()
        scene = write(tmp_path / f"{fill}_shifted.tif", shifted)
        (error,) = inspect(SceneSource(read_info(scene), (1, 2, 3, 4)), source).errors
        assert "values are about 1000 higher than in training" in error and error.endswith("; set offset=-1000.")
    options = [f"checkpoint={save_untrained(tmp_path, source)}", "engine=torch", "progress=false", "output=m.tif"]
    message = error_line("predict", *options, f"input={tmp_path / '0_shifted.tif'}", cwd=tmp_path)
    assert "0_shifted.tif: values are about 1000 higher than in training" in message


def test_extreme_values_that_occurred_in_training_are_not_taken_for_a_border(tmp_path: Path) -> None:
    image = make_image(0, make_mask(0))
    image[:, :, :10] = 65535  # like saturated clouds
    scene = SceneSource(read_info(write(tmp_path / "scene.tif", image)), (1, 2, 3, 4))
    assert inspect(scene, source_of([image])) == Findings()


def test_values_that_need_both_scale_and_offset_get_no_advice(tmp_path: Path) -> None:
    image, source = make_image(0, make_mask(0)), source_of(images())
    landsat = write(tmp_path / "landsat.tif", (image * 3.64 + 7273).astype(np.uint16))
    options = [f"checkpoint={save_untrained(tmp_path, source)}", "engine=torch", "progress=false", "output=m.tif"]
    message = error_line("predict", *options, f"input={landsat}", cwd=tmp_path)
    assert "scale=" not in message and "offset=" not in message
    low, high = (f"{np.median(n):.3g}" for n in (source.statistics.p02, source.statistics.p98))
    assert f"in training from {low} to {high} (2nd to 98th percentile)" in message


def test_explain_checks_and_reads_images_as_predict_does(tmp_path: Path) -> None:
    image, model = make_image(0, make_mask(0)), save_untrained(tmp_path, source_of(images()))
    plain, scene = write(tmp_path / "plain.tif", image), write(tmp_path / "scene.tif", image + np.uint16(1000))
    options = [f"checkpoint={model}", "target=a", "region=[10,10,40,40]", "layer=decoder"]
    message = error_line("explain", *options, f"input={scene}", "output=no", cwd=tmp_path)
    assert "scene.tif: values are about 1000 higher than in training" in message
    assert "; set offset=-1000, or preflight=warn" in message
    assert not list((tmp_path / "no").glob("*.tif"))
    maps = []
    for path, *advice in ((plain,), (scene, "offset=-1000"), (scene, "preflight=warn")):
        done = command("explain", *options, f"input={path}", f"output=out{len(maps)}", *advice, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ("about 1000 higher" in done.stderr) == ("preflight=warn" in advice)
        with rasterio.open(next((tmp_path / f"out{len(maps)}").glob("*.tif"))) as file:
            maps.append(file.read())
    assert np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[0], maps[2])


def test_a_scene_with_most_values_outside_the_training_range_is_warned_of(tmp_path: Path) -> None:
    source = source_of(images())
    image = make_image(0, make_mask(0)).astype(np.float32)
    image = image * np.array([6, 2, 0.2, 4], np.float32)[:, None, None] + np.float32(4000)
    scene = SceneSource(read_info(write(tmp_path / "scene.tif", image)), (1, 2, 3, 4))
    (warning,) = inspect(scene, source).warnings
    assert "% of the values lie far outside those of the training" in warning


@pytest.mark.parametrize("shift", [-15, 15])
def test_8_bit_images_may_be_brighter_or_darker(tmp_path: Path, shift: int) -> None:
    image = np.clip(make_image(0, make_mask(0))[:3] / 16, 20, 230).astype(np.uint8)
    source = source_of([image], "uint8")
    for dtype, number in (("uint8", 0), ("uint16", 1)):
        path = write(tmp_path / f"{dtype}.tif", (image.astype(np.int16) + shift).astype(dtype))
        found = inspect(SceneSource(read_info(path), (1, 2, 3)), source)
        assert (
            len(found.warnings) == number and not found.errors
        )  # haze shifts all three colours alike, so this is no error


TAGGED = {  # stored values, tags, and the advice for a model of reflectance and for one of stored values
    "as in training": (lambda i: i + 1000, (1e-4, -0.1), ("scale=0.0001 offset=-0.1", "offset=-1000")),
    "other unit": (lambda i: i / 0.5 + 5000, (5e-5, -0.25), ("scale=5e-05 offset=-0.25", "scale=0.5 offset=-2500")),
}


@pytest.mark.parametrize("stored", TAGGED)
@pytest.mark.parametrize("unit", [1e-4, 1.0], ids=["reflectance", "stored"])
def test_the_scale_and_offset_tags_of_a_file_are_advised(tmp_path: Path, stored: str, unit: float) -> None:
    function, tags, advice = TAGGED[stored]
    image, source = make_image(0, make_mask(0)), source_of([i * unit for i in images()], "float32")
    path = write(tmp_path / "scene.tif", function(image).round().astype(np.uint16), tags)
    scene = SceneSource(read_info(path), (1, 2, 3, 4))
    (error,) = inspect(scene, source).errors
    wanted = advice[0 if unit < 1 else 1]
    assert f"; set {wanted}, as its own tags say" in error
    undone = replace(scene, **{key: float(value) for key, value in (o.split("=") for o in wanted.split())})
    assert inspect(undone, source) == Findings()
    np.testing.assert_allclose(read(undone), image * unit, atol=unit)


def test_tags_that_do_not_fit_or_differ_between_bands_are_reported(tmp_path: Path) -> None:
    image, source = make_image(0, make_mask(0)) + np.uint16(1000), source_of(images())
    wrong = SceneSource(read_info(write(tmp_path / "wrong.tif", image, (1e-4, -0.4))), (1, 2, 3, 4))
    (error,) = inspect(wrong, source).errors
    assert "; set offset=-1000 (its own tags, scale=0.0001 offset=-0.4, do not fit)" in error
    with rasterio.open(tmp_path / "wrong.tif", "r+") as file:
        file.scales = (1e-4, 1e-4, 1e-4, 2e-4)
    (error,) = inspect(SceneSource(read_info(tmp_path / "wrong.tif"), (1, 2, 3, 4)), source).errors
    assert "different scale and offset tags: apply them (gdal_translate -unscale" in error


REAL = {  # an offset that counts as a fault, in the unit of the file
    "sen1floods11/Spain_7370579_S2Hand.tif": 1000.0,
    "polygons_small/sen2.tif": 0.2,
    "polygons_small/lsat.tif": 20.0,
}


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_parts_of_a_real_scene_give_no_errors_until_they_are_shifted(shared_dir: Path, name: str) -> None:
    info = read_info(shared_dir / "data" / name)
    height, width = info.height // 3, info.width // 3
    parts = [Window(col * width, row * height, width, height) for row in range(3) for col in range(3)]
    with quiet():
        pixels = [read_window(info.path, part).reshape(info.count, -1) for part in parts]
    kept = [own[:, (own != 0).any(0)] for own in pixels]
    faults = 0
    for index, part in enumerate(parts):
        known = statistics(np.concatenate(kept[:index] + kept[index + 1 :], axis=1))
        source = InputSpec(info.band_names, "int16", 1.0, nodata=0.0, gsd_m=info.gsd_m, statistics=known)
        scene = SceneSource(scene_header(info, part, None), info.bands, nodata=0.0, area=part)
        found = inspect(scene, source)
        assert not found.errors and not [w for w in found.warnings if "missing" not in w]
        shifted = inspect(replace(scene, offset=REAL[name]), source)
        faults += any("higher than in training" in error for error in shifted.errors)
    assert faults >= 7


def test_numbered_bands_are_accepted_only_if_neither_file_nor_model_names_bands(tmp_path: Path) -> None:
    source = replace(source_of(images()), bands=("band_1", "band_2", "band_3", "band_4"))
    image = np.concatenate([images()[0][:1], images()[0]])
    path, options = tmp_path / "scene.tif", UTM | {"count": 5, "height": image.shape[1], "width": image.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", dtype=image.dtype, **options) as file:
        file.write(image)
    assert not inspect(SceneSource(read_info(path), (2, 3, 4, 5)), source).errors
    with rasterio.open(path, "r+") as file:
        file.set_band_description(1, "band_4")  # a name in the file, at another position
    assert "set bands=" in inspect(SceneSource(read_info(path), (1, 3, 4, 5)), source).errors[0]
