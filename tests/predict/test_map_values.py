"""`map_values=mask`: maps with the values of the training masks, with correct nodata, names, colours and areas."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from satseg.config import CONFIG_DIR
from satseg.data.labels.discovery import discover_scheme, scheme_from_config
from satseg.errors import ConfigError, SpecError
from satseg.inference.map_values import training_mask_values
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import save_model
from satseg.predict.models import open_models
from satseg.predict.run import predict_scenes
from satseg.spec import DatasetSpec, InputSpec, MaskValue

SOURCE = InputSpec(("r", "g", "b"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3)
SPEC = DatasetSpec((SOURCE,), ("a", "b", "c"), ((9, 8, 7), (99, 98, 97), (199, 198, 197)))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 600, "width": 540, "dtype": "uint8", "nodata": 0}
    profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4e6)}
    with rasterio.open(path, "w", **profile) as target:
        image = np.random.default_rng(0).integers(1, 255, (3, 600, 540), np.uint8)
        image[:, :90, :70] = 0
        target.write(image)
    return path


def predict_map(scene: Path, spec: DatasetSpec, folder: Path, *options: str) -> Path:
    torch.manual_seed(0)
    config = {"_target_": MODELS["fpn"], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    network = build_model(config, spec)
    save_model(folder / "run/model.safetensors", network, training={}, protocol={})
    output = folder / "map.tif"
    given = [f"checkpoint={folder / 'run'}", f"input={scene}", f"output={output}", "device=cpu", "engine=torch"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("predict", [*given, "progress=false", "areas=true", "vectors=gpkg", *options])
    predict_scenes(cfg, open_models(cfg))
    return output


@pytest.mark.parametrize(
    ("values", "dtype", "nodata", "warning"),
    [
        (((0,), (255,), (254,)), "uint8", 253, ""),
        (((11,), (2,), (1, 7, 9)), "uint8", 255, "c is 1 in the map, but 1, 7, 9 in the masks"),
        (((300,), (65_535,), (70,)), "uint16", 65_534, ""),
        (((-1,), (40,), (5,)), "int16", 2**15 - 1, "no colour table for int16"),
        (((0,), (70_000,), (5,)), "int32", 2**31 - 1, "no colour table for int32"),
    ],
)
def test_maps_have_the_values_of_the_training_masks(
    values: tuple[tuple[int, ...], ...],
    dtype: str,
    nodata: int,
    warning: str,
    scene: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec, firsts = replace(SPEC, mask_values=values), [own[0] for own in values]
    plain = predict_map(scene, spec, tmp_path / "plain")
    assert "map_values" not in capsys.readouterr().err
    coded = predict_map(scene, spec, tmp_path / "coded", "map_values=mask", "overviews=mode", "preview=true")
    assert warning in capsys.readouterr().err
    with rasterio.open(plain) as first, rasterio.open(coded) as found:
        classes, written = first.read(1), found.read(1)
        assert len(np.unique(classes)) == 4, "the network must predict every class"
        assert (
            found.dtypes == (dtype,) and found.nodata == nodata and found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        )
        assert (written == np.array([*firsts, nodata])[np.minimum(classes, 3)]).all()
        assert json.loads(found.tags()["SATSEG_CLASSES"]) == dict(zip(map(str, firsts), SPEC.class_names, strict=True))
        if dtype in ("uint8", "uint16"):
            assert [found.colormap(1)[value][:3] for value in firsts] == list(SPEC.palette)
        assert found.overviews(1)
        assert set(np.unique(found.read(1, out_shape=(300, 270))).tolist()) <= {*firsts, nodata}
    tables = [list(csv.DictReader(path.with_name("map_areas.csv").open())) for path in (plain, coded)]
    assert tables[0] == tables[1] and [int(row["pixels"]) for row in tables[0]] == [
        (classes == i).sum() for i in range(3)
    ]
    names, numbers, areas = pyogrio.raw.read(coded.with_suffix(".gpkg"))[3]
    assert {*zip(names, numbers.tolist(), strict=True)} == {*zip(SPEC.class_names, firsts, strict=True)}
    assert areas.sum() == pytest.approx((classes != 255).sum() * 100)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (None, "does not record its mask values"),
        ((((255, 0, 0),), ((0, 0, 0),), ((1, 2, 3),)), "are coloured"),
        (((1,), (), (2,)), "have no value for b"),
    ],
)
def test_masks_without_a_value_for_each_class_raise_an_error(
    values: tuple[tuple[MaskValue, ...], ...] | None, expected: str, scene: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=expected):
        predict_map(scene, replace(SPEC, mask_values=values), tmp_path, "map_values=mask")
    assert not list(tmp_path.glob("*.tif"))


NUMBERS = st.one_of(st.integers(0, 255), st.integers(0, 2**16), st.integers(-(2**24) + 1, 2**24 - 1))


@given(st.lists(NUMBERS, min_size=2, max_size=255, unique=True))
def test_any_mask_values_are_distinct_from_nodata_and_survive_saving(firsts: list[int]) -> None:
    names = tuple(f"class {value}" for value in firsts)
    scheme = scheme_from_config(dict(zip(names, firsts, strict=True)))
    spec = DatasetSpec((SOURCE,), names, scheme.palette, mask_values=scheme.mask_values())
    assert DatasetSpec.from_dict(spec.to_dict()) == spec
    coding = training_mask_values([spec], ["run"])
    numbers = np.array([*range(len(firsts)), 255], np.uint8)
    written = numbers if coding.table is None else coding.table[numbers]
    assert written[:-1].tolist() == firsts and written.dtype == coding.dtype
    assert int(written[-1]) == coding.nodata and coding.nodata not in firsts


def test_mask_values_are_derived_from_every_form_of_class_scheme(tmp_path: Path) -> None:
    def values(*given: object) -> object:
        return scheme_from_config(*given).mask_values()  # type: ignore[arg-type]

    assert values(["a", "b"]) == ((0,), (1,))
    assert values({"a": 4, "b": [2, 9, 1]}, {7: "a", 8: "ignore"}) == ((4, 7), (2, 9, 1))
    assert values({"a": [[255, 0, 0], [9, 9, 9]], "b": "#0000ff"}) == (((255, 0, 0), (9, 9, 9)), ((0, 0, 255),))
    assert values({"a": [0, 0, 0], "b": [255, 255, 255]}) == ((0,), (255,))
    path = tmp_path / "mask.tif"
    with rasterio.open(path, "w", driver="GTiff", count=1, height=2, width=2, dtype="uint16") as target:
        target.write(np.array([[[3, 700], [700, 12]]], np.uint16))
    assert discover_scheme([path]).mask_values() == ((3,), (12,), (700,))
    many = scheme_from_config({"a": {"value": list(range(500))}, "b": 1000}).mask_values()
    assert many is not None and [len(own) for own in many] == [100, 1]
    for wrong in (((1,), (1,), (2,)), ((1,), (2,)), ((1,), (2,), (2**24,))):
        with pytest.raises(SpecError, match="mask_values"):
            replace(SPEC, mask_values=wrong)
