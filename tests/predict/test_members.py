"""Ensembles: which models may be averaged, and their mean, against a manual computation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from satseg.config import CONFIG_DIR
from satseg.errors import ConfigError, PreflightError
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import load_model, save_model
from satseg.predict.models import open_models
from satseg.predict.run import predict_scenes
from satseg.spec import BandStatistics, DatasetSpec, InputSpec

BANDS = ("blue", "green", "red", "infrared")


def statistics(low: float, high: float) -> BandStatistics:
    def four(number: float) -> tuple[float, ...]:
        return tuple(number * (1 + 0.1 * i) for i in range(4))

    mean = (low + high) / 2
    return BandStatistics(four(low), four(high), four(mean), four((high - low) / 4), four(low), four(high))


SOURCE = InputSpec(
    BANDS, "uint16", 4394.0, mean=(0.5,) * 4, std=(0.2,) * 4, statistics=statistics(300, 4000), gsd_m=10.0, nodata=0.0
)
SPEC = DatasetSpec((SOURCE,), ("land", "water", "ice"), tuple((i, i, i) for i in range(3)))


def save_network(folder: Path, name: str, spec: DatasetSpec, decoder: str = "unet") -> Path:
    torch.manual_seed(len(name))
    config = {"_target_": MODELS[decoder], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    network = build_model(config, spec)
    with torch.no_grad():
        for parameter in network.net.segmentation_head.parameters():
            parameter.mul_(20)  # so that models differ in their confidence
    save_model(folder / name / "model.safetensors", network, training={}, protocol={})
    return folder / name


def spec_with(**changes: Any) -> DatasetSpec:
    return replace(SPEC, inputs=(replace(SOURCE, **changes),))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    profile = {"driver": "GTiff", "count": 4, "height": 70, "width": 90, "dtype": "uint16"}
    profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4e6)}
    with rasterio.open(path, "w", **profile) as target:
        image = np.random.default_rng(0).integers(300, 4000, (4, 70, 90), np.uint16)
        image[:, :10, :20] = 0
        target.write(image)
        target.descriptions = BANDS
    return path


def options(scene: Path, models: list[Path], **changes: Any) -> DictConfig:
    given: dict[str, Any] = {"input": f"'{scene}'", "checkpoint": f"[{','.join(f'{m}' for m in models)}]"}
    given |= {"output": scene.with_name("map.tif"), "device": "cpu", "progress": False} | changes
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("predict", [f"{key}={value}" for key, value in given.items()])


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_models_with_different_standardisation_are_averaged(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    other = {"dtype": "int16", "scale": 1.0, "offset": 300.0, "mean": (1500.0,) * 4, "std": (900.0,) * 4}
    other |= {"nodata": -9999.0, "statistics": statistics(310, 5200), "gsd_m": 9.0}
    none = {"nodata": None, "statistics": None, "gsd_m": None}
    models = [save_network(tmp_path, "a", SPEC), save_network(tmp_path, "bb", spec_with(**other), "fpn")]
    models.append(save_network(tmp_path, "ccc", spec_with(**none)))
    choices = {"engine": engine, "probabilities": "all", "probability_dtype": "float32"}
    cfg = options(scene, models, **choices)
    predict_scenes(cfg, open_models(cfg))
    assert "(-9999.0, 0.0, None)" in (printed := capsys.readouterr().err) and "0 is used; set nodata=" in printed
    with rasterio.open(scene) as source:
        image = source.read()
    valid = ~(image == 0).all(0)  # the nodata value of the first model
    total = np.zeros((3, *valid.shape))
    for model in models:
        with torch.no_grad():
            logits = load_model(model)(torch.from_numpy(image.astype(np.float32))[None], torch.from_numpy(valid)[None])
        total += torch.softmax(logits[0].double(), 0).numpy() / 3
    with (
        rasterio.open(scene.with_name("map_probabilities.tif")) as made,
        rasterio.open(scene.with_name("map.tif")) as m,
    ):
        np.testing.assert_allclose(made.read()[:, valid], total[:, valid], atol=1e-3)
        assert ((m.read(1) == 255) == ~valid).all()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (replace(SPEC, class_names=("land", "ice", "water")), "has the classes land, water, ice, the second land, ice"),
        (spec_with(bands=("blue", "green", "red", "swir")), "the bands blue, green, red, infrared"),
        (spec_with(bands=BANDS[::-1]), "trained on the same bands in the same order"),
        (replace(SPEC, ignore_index=200), "ignore_index 255, the second 200"),
        (spec_with(dtype="float32", statistics=statistics(0.03, 0.4)), "they are in different units"),
        (spec_with(dtype="float32", statistics=None), "the second floating-point values"),
        (spec_with(statistics=statistics(300 + 3000, 4000 + 3000)), "higher in all bands"),
        (spec_with(gsd_m=30.0), "has pixels of 10 m, the second of 30 m"),
    ],
)
def test_incompatible_models_raise_an_error_that_names_them_and_the_remedy(
    spec: DatasetSpec, expected: str, scene: Path, tmp_path: Path
) -> None:
    models = [save_network(tmp_path, "a", SPEC), save_network(tmp_path, "bb", spec)]
    with pytest.raises(ConfigError) as caught:
        open_models(options(scene, models))
    message = str(caught.value)
    assert expected in message and all(str(model) in message for model in models)
    assert "make a separate map with each" in message


def test_a_scene_that_fails_the_preflight_check_of_any_member_is_stopped(scene: Path, tmp_path: Path) -> None:
    cloudy = spec_with(statistics=statistics(300, 12_000))
    models = [save_network(tmp_path, "a", SPEC), save_network(tmp_path, "bb", cloudy)]
    with rasterio.open(scene) as source:
        profile, image = source.profile, source.read()
    with rasterio.open(tmp_path / "bright.tif", "w", **profile | {"dtype": "float32"}) as target:
        target.write(image * np.float32(40))
        target.descriptions = BANDS
    cfg = options(tmp_path / "bright.tif", models, engine="torch")
    with pytest.raises(PreflightError, match=r"no common factor .* convert them|values reach"):
        predict_scenes(cfg, open_models(cfg))
