"""The command `satseg.predict`, on a tiny model."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pyogrio
import pyogrio.raw
import pytest
import rasterio
import rasterio.control
import rasterio.rpc
import rasterio.shutil
import torch
from commands import TINY, command, error_line
from hydra import compose, initialize_config_dir
from PIL import Image
from range_server import serve

import satseg
from satseg.config import CONFIG_DIR
from satseg.errors import ConfigError
from satseg.locks import output_lock
from satseg.predict.run import check_options
from satseg.runs.documents import read_json

BAND_NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict (1), ü=x")
    done = command("train", *TINY, "run_dir=run", "trainer=debug", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def scene(run: Path) -> Path:
    """Write a georeferenced scene of 3 x 3 images with a corner of nodata."""
    first = next(run.parent.rglob("test/images/*.tif"))
    with rasterio.open(first) as source:
        profile, tile = source.profile, source.read()
    image = np.tile(np.maximum(tile, 1), (1, 3, 3))[:, :350, :370]
    image[:, :40, :60] = 0
    path = run.parent / "scene (ä).tif"
    with rasterio.open(path, "w", **profile | {"height": 350, "width": 370}) as target:
        target.write(image)
        target.descriptions = BAND_NAMES
    return path


def predict(run: Path, *options: str, cwd: Path, checkpoint: str | None = None) -> str:
    done = command("predict", f"checkpoint={checkpoint or run}", "progress=false", *options, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


def logits_of(run: Path, image: np.ndarray, valid: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return satseg.load_model(run)(torch.from_numpy(image)[None], torch.from_numpy(valid)[None])[0]


def test_the_map_of_a_scene_in_one_window_equals_the_prediction_of_the_model(
    run: Path, scene: Path, tmp_path: Path
) -> None:
    printed = predict(
        run,
        f"input={scene}",
        f"output={tmp_path / 'map.tif'}",
        "areas=true",
        "vectors=gpkg",
        "min_area_m2=1e9",
        "engine=torch",
        cwd=tmp_path,
    )
    assert str(tmp_path / "map.tif") in printed and "Mpx/s" in printed
    image = read(scene)
    valid = ~(image == 0).all(0)
    expected = logits_of(run, image, valid).argmax(0).numpy()
    found = read(tmp_path / "map.tif")[0]
    assert (found[valid] == expected[valid]).mean() > 0.9999 and (found[~valid] == 255).all()
    with (tmp_path / "map_areas.csv").open(newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    with rasterio.open(scene) as source:
        pixel_m2 = abs(source.transform.a * source.transform.e)
    for index, name in enumerate(satseg.load_model(run).spec.class_names):
        assert int(rows[name]["pixels"]) == (found == index).sum()
        assert float(rows[name]["area_m2"]) == pytest.approx((found == index).sum() * pixel_m2)
    assert (tmp_path / "map.gpkg").is_file()
    assert "Warning: " in printed and "map.gpkg: with min_area_m2=1e+09" in printed and "covers 100.0% less" in printed


def test_the_default_output_is_in_the_run_folder(run: Path, scene: Path, tmp_path: Path) -> None:
    predict(run, f"input={scene}", "window=[10,20,150,140]", "engine=torch", cwd=tmp_path)
    assert read(run / "predictions" / f"{scene.stem}.tif").shape == (1, 140, 150)


def test_test_time_augmentation_averages_probabilities(run: Path, scene: Path, tmp_path: Path) -> None:
    options = [f"input={scene}", f"output={tmp_path / 'map.tif'}", "probabilities=all", "probability_dtype=float32"]
    predict(run, *options, "tta=d4", "engine=torch", cwd=tmp_path)
    image = read(scene)
    valid = ~(image == 0).all(0)
    total, count = 0, 0
    for turns in range(4):
        for mirror in (False, True):
            seen = [np.rot90(x, turns, (-2, -1)) for x in (image, valid)]
            seen = [np.ascontiguousarray(x[..., ::-1] if mirror else x) for x in seen]
            shares = logits_of(run, *seen).softmax(0).numpy()
            shares = shares[..., ::-1] if mirror else shares
            total, count = total + np.rot90(shares, -turns, (-2, -1)), count + 1
    np.testing.assert_allclose(read(tmp_path / "map_probabilities.tif")[:, valid], (total / count)[:, valid], atol=1e-4)


def test_a_corrupt_scene_in_a_folder_does_not_stop_the_others(run: Path, scene: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / "a.tif").write_bytes(scene.read_bytes())
    (folder / "b.tif").write_bytes(scene.read_bytes()[:3000])
    Image.fromarray(read(scene).transpose(1, 2, 0)).save(folder / "c.png")
    output = tmp_path / "maps"
    options = [f"checkpoint={run}", f"input={folder}", f"output={output}", "progress=false", "engine=torch"]
    options += ["areas=true", "vectors=gpkg"]
    done = command("predict", *options, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    own = [f"{name}{ending}" for name in "ac" for ending in (".gpkg", ".tif", "_areas.csv")]
    assert sorted(p.name for p in output.iterdir()) == sorted([*own, "all_scenes.gpkg", "all_scenes_areas.csv"])
    assert "all_scenes_areas.csv is missing 1 of 3 scenes" in done.stderr and "\nEngine: torch\n" in done.stdout
    assert "b.tif" in done.stderr and "2 of 3 scenes segmented" in done.stdout and "- b: failed" in done.stdout
    assert np.array_equal(read(output / "a.tif")[0, 50:], read(output / "c.tif")[0, 50:])
    check_combined_outputs(output, ("a", "c"), satseg.load_model(run).spec.class_names)


def check_combined_outputs(output: Path, scenes: Sequence[str], class_names: Sequence[str]) -> None:
    """Compare the combined table and layers of all scenes with the pixels of their maps."""
    counts = {scene: np.bincount(read(output / f"{scene}.tif").ravel(), minlength=256) for scene in scenes}
    with (output / "all_scenes_areas.csv").open(newline="") as file:
        rows = {(row["scene"], row["class"]): row for row in csv.DictReader(file)}
    assert len(rows) == (len(scenes) + 1) * len(class_names)
    found: dict[tuple[str, str], float] = {}
    for layer, _ in pyogrio.list_layers(output / "all_scenes.gpkg"):
        columns = pyogrio.raw.read(output / "all_scenes.gpkg", layer=layer)[3]
        for scene, name, _, area in zip(*columns, strict=True):
            found[scene, name] = found.get((scene, name), 0) + area
    for index, name in enumerate(class_names):
        for scene in scenes:
            with rasterio.open(output / f"{scene}.tif") as source:
                pixel = abs(source.transform.determinant)  # 1 without georeference
            assert int(rows[scene, name]["pixels"]) == counts[scene][index]
            assert found.get((scene, name), 0) == pytest.approx(counts[scene][index] * pixel)
        assert int(rows["all scenes", name]["pixels"]) == sum(counts[scene][index] for scene in scenes)


def rewrite(scene: Path, path: Path, image: np.ndarray, **changes: object) -> Path:
    names = changes.pop("names", BAND_NAMES)
    with rasterio.open(scene) as source:
        profile = source.profile | {"count": len(image), "dtype": image.dtype} | changes
    with rasterio.open(path, "w", **profile) as target:
        target.write(image)
        target.descriptions = names
    return path


def test_bands_are_selected_by_name(run: Path, scene: Path, tmp_path: Path) -> None:
    swapped = rewrite(scene, tmp_path / "bgr.tif", read(scene)[::-1].copy(), names=BAND_NAMES[::-1])
    for path, name in ((scene, "a.tif"), (swapped, "b.tif")):
        predict(run, f"input={path}", f"output={tmp_path / name}", "engine=torch", cwd=tmp_path)
    assert np.array_equal(read(tmp_path / "a.tif"), read(tmp_path / "b.tif"))


def test_scenes_with_other_bands_values_or_pixel_sizes_are_stopped_or_warned_of(
    run: Path, scene: Path, tmp_path: Path
) -> None:
    image = read(scene)
    two = rewrite(scene, tmp_path / "two.tif", image[:2], names=("x", "y"))
    printed = error_line("predict", f"checkpoint={run}", f"input={two}", "output=map.tif", cwd=tmp_path)
    assert "two.tif has the bands 1 (x), 2 (y)" in printed and "red, green, blue" in printed and "bands=" in printed
    assert "bands=[1, 2, 9]" in error_line(
        "predict", f"checkpoint={run}", f"input={two}", "output=map.tif", "bands=[1,2,9]", cwd=tmp_path
    )
    unit = rewrite(scene, tmp_path / "unit.tif", image.astype(np.float32) / 255)
    printed = error_line("predict", f"checkpoint={run}", f"input={unit}", "output=map.tif", cwd=tmp_path)
    assert "set scale=255" in printed and "preflight=warn" in printed
    output = tmp_path / "scaled.tif"
    predict(run, f"input={unit}", f"output={output}", "scale=255", "engine=torch", cwd=tmp_path)
    predict(run, f"input={scene}", f"output={tmp_path / 'plain.tif'}", "engine=torch", cwd=tmp_path)
    assert (read(output) == read(tmp_path / "plain.tif")).mean() > 0.999
    with rasterio.open(scene) as source:
        wide = source.transform @ source.transform.scale(2)
        fine = source.transform.a
    coarse = rewrite(scene, tmp_path / "coarse.tif", image, transform=wide)
    printed = predict(run, f"input={coarse}", f"output={output}", "engine=torch", cwd=tmp_path)
    assert "Warning" in printed and "2 times" in printed and "gsd_m=" in printed
    predict(run, f"input={coarse}", f"output={output}", f"gsd_m={fine}", "engine=torch", cwd=tmp_path)
    with rasterio.open(output) as found, rasterio.open(coarse) as source:
        assert found.shape == (700, 740) and found.bounds == source.bounds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["overlap=900"], "overlap=900: expected 0 to 384"),
        (["window_size=500"], "window_size=500: expected a multiple of 32"),
        (["output=map.png"], "output=map.png"),
        (["output={scene}"], "is an input scene, which would be overwritten"),
        (["vectors=map.shp"], "vectors=map.shp: choose"),
        (["tta=all"], "tta=all: choose none, flips, d4"),
        (["engine=fast"], "engine=fast"),
        (["executor=slurm"], "executor=slurm: choose local or ray"),
        (["probabilities=some"], "probabilities=some: choose"),
        (["preflight=off"], "preflight=off: choose stop or warn"),
        (["window=[0,0,9000,10]"], "does not lie inside"),
        (["max_ram_gb=0.01"], "max_ram_gb=0.01: windows of"),
        (["input=nowhere.tif"], "nowhere.tif"),
        (["checkpoint=nowhere"], "nowhere"),
    ],
)
def test_invalid_options_give_an_error_of_one_line(
    run: Path, scene: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    given = [f"checkpoint={run}", f"input={scene}", "output=map.tif", "engine=torch", "progress=false"]
    names = {option.partition("=")[0] for option in options}
    kept = [option for option in given if option.partition("=")[0] not in names]
    assert message in error_line("predict", *kept, *[o.format(scene=scene) for o in options], cwd=tmp_path)
    assert not list(tmp_path.glob("*.tif"))


@pytest.mark.slow
def test_ray_gives_the_same_bytes_and_survives_the_loss_of_a_worker(run: Path, scene: Path, tmp_path: Path) -> None:
    options = [f"checkpoint={run}", f"input={scene}", "engine=torch", "window_size=128", "overlap=32", "progress=false"]
    assert command("predict", *options, "output=local.tif", cwd=tmp_path).returncode == 0
    arguments = [sys.executable, "-m", "satseg.predict", *options, "output=ray.tif", "executor=ray", "workers=2"]
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline, killed = time.monotonic() + 300, False
        while process.poll() is None and time.monotonic() < deadline and not killed:
            workers = [p for p in psutil.Process(process.pid).children(recursive=True) if "Worker" in p.name()]
            if workers:
                workers[0].send_signal(signal.SIGKILL)
                killed = True
            time.sleep(0.1)
        assert process.wait(300) == 0, process.stderr.read() if process.stderr else ""
    assert killed and (tmp_path / "ray.tif").read_bytes() == (tmp_path / "local.tif").read_bytes()
    (tmp_path / "again.tif").write_bytes(scene.read_bytes())
    several = [options[0], f"input=['{scene}',again.tif]", *options[2:], "areas=true", "vectors=gpkg"]
    done = command("predict", *several, "output=maps", "executor=ray", "workers=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check_combined_outputs(tmp_path / "maps", (scene.stem, "again"), satseg.load_model(run).spec.class_names)
    done = command("predict", *several, "output=single", "scenes=single", cwd=tmp_path)
    assert done.returncode == 0 and not list((tmp_path / "single").glob("all_scenes*")), done.stderr


def test_evaluation_with_test_time_augmentation_is_stored_separately(run: Path, tmp_path: Path) -> None:
    for tta in ("none", "d4"):
        done = command("evaluate", f"checkpoint={run}", "split=test", f"tta={tta}", cwd=run.parent)
        assert done.returncode == 0, done.stderr
    plain, turned = (read_json(run / "evaluation" / name / "scores.json") for name in ("test", "test_d4"))
    assert (plain["protocol"]["tta"], turned["protocol"]["tta"]) == ("none", "d4")
    assert plain["scores"]["miou"] != turned["scores"]["miou"]


@pytest.mark.parametrize(
    "option",
    [
        *(
            "bands=3",
            "bands=[1.5,2,3]",
            "bands=[]",
            "nodata=abc",
            "gsd_m=0",
            "gsd_m=nan",
            "batch_size=0",
            "batch_size=1.5",
        ),
        *(
            "max_ram_gb=null",
            "max_ram_gb=inf",
            "scale=0",
            "scale=nan",
            "offset=null",
            "min_area_m2=-1",
            "simplify_m=null",
        ),
        *(
            "workers=-1",
            "workers=abc",
            "map_values=colour",
            "window=[1,2]",
            "overlap=-1",
            "overviews=cubic",
            "vectors=shp",
        ),
    ],
)
def test_invalid_values_raise_an_error_before_files_are_opened(option: str) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("predict", ["input=nothing.tif", option])
    with pytest.raises(ConfigError, match=re.escape(option.partition("=")[0])):
        check_options(cfg)


def test_input_scenes_are_never_overwritten_and_no_output_written_twice(run: Path, scene: Path, tmp_path: Path) -> None:
    for name in ("a.tif", "a_entropy.tif", "b.png"):
        (tmp_path / name).write_bytes(scene.read_bytes())
    given = [f"checkpoint={run}", "engine=torch"]
    printed = error_line("predict", *given, "input=a_entropy.tif", "output=a.tif", "entropy=true", cwd=tmp_path)
    assert "a_entropy.tif is an input scene" in printed
    assert "is an input scene" in error_line("predict", *given, "input=.", "output=.", cwd=tmp_path)
    printed = error_line("predict", *given, "input=[a.tif,a_entropy.tif]", "output=maps", "entropy=true", cwd=tmp_path)
    assert "would be written twice" in printed
    assert all((tmp_path / name).read_bytes() == scene.read_bytes() for name in ("a.tif", "a_entropy.tif"))


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_proxy")
def test_a_remote_scene_is_segmented_and_its_changes_are_detected(run: Path, scene: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "served", tmp_path / "map.tif"
    folder.mkdir()
    rasterio.shutil.copy(scene, folder / "scene.tif", driver="COG", blocksize=128)
    predict(run, f"input={scene}", f"output={tmp_path / 'local.tif'}", "engine=torch", cwd=tmp_path)
    with serve(folder) as host:
        url = f"http://{host}/scene.tif?sig="
        predict(run, f"input={url}one", f"output={output}", "engine=torch", cwd=tmp_path)
        made = output.stat().st_mtime_ns
        predict(run, f"input={url}two", f"output={output}", "engine=torch", cwd=tmp_path)
        assert output.stat().st_mtime_ns == made  # another signature of the URL is the same scene
        assert np.array_equal(read(output), read(tmp_path / "local.tif"))
        darker = rewrite(scene, tmp_path / "darker.tif", np.maximum(read(scene) // 2, 1))
        rasterio.shutil.copy(darker, folder / "scene.tif", driver="COG", blocksize=128)
        predict(run, f"input={url}three", f"output={output}", "engine=torch", cwd=tmp_path)
        assert output.stat().st_mtime_ns > made


def test_changes_of_files_behind_a_vrt_are_detected(run: Path, scene: Path, tmp_path: Path) -> None:
    part, vrt, output = tmp_path / "part.tif", tmp_path / "scene.vrt", tmp_path / "map.tif"
    part.write_bytes(scene.read_bytes())
    rasterio.shutil.copy(part, vrt, driver="VRT")
    predict(run, f"input={vrt}", f"output={output}", "engine=torch", cwd=tmp_path)
    before, made = read(output), output.stat().st_mtime_ns
    rewrite(scene, part, read(scene)[:, ::-1].copy())
    predict(run, f"input={vrt}", f"output={output}", "engine=torch", cwd=tmp_path)
    assert output.stat().st_mtime_ns > made and not np.array_equal(read(output), before)


def test_bands_in_separate_files_are_segmented_as_one_scene(run: Path, scene: Path, tmp_path: Path) -> None:
    for number, name in enumerate(BAND_NAMES):
        rewrite(scene, tmp_path / f"T01_{name}.tif", read(scene)[number : number + 1], names=(name,))
    patterns = ", ".join(f"{name}: 'T*_{name}.tif'" for name in BAND_NAMES)
    predict(run, f"input={{{patterns}}}", f"output={tmp_path / 'map.tif'}", "engine=torch", cwd=tmp_path)
    predict(run, f"input={scene}", f"output={tmp_path / 'whole.tif'}", "engine=torch", cwd=tmp_path)
    with rasterio.open(tmp_path / "map.tif") as found, rasterio.open(scene) as source:
        assert (found.crs, found.transform) == (source.crs, source.transform)
    assert np.array_equal(read(tmp_path / "map.tif"), read(tmp_path / "whole.tif"))


def test_scenes_with_control_points_or_rpcs_are_warned_of(run: Path, scene: Path, tmp_path: Path) -> None:
    corners = [(row, col, 30.0 + col / 1e4, 50.0 - row / 1e4) for row, col in ((0, 0), (0, 370), (350, 0), (350, 370))]
    points = [rasterio.control.GroundControlPoint(*corner) for corner in corners]
    line = [1.0] + [0.0] * 19
    rpcs = rasterio.rpc.RPC(0, 1, 0, 1, line, line, 0, 1, 0, 1, line, line, 0, 1)
    for name, place in (("ground control points", {"gcps": points, "crs": "EPSG:4326"}), ("RPC", {"rpcs": rpcs})):
        path = tmp_path / f"{name}.tif"
        profile = {"driver": "GTiff", "count": 3, "height": 350, "width": 370, "dtype": "uint8"}
        with rasterio.open(path, "w", **profile, **place) as target:
            target.write(read(scene))
        printed = predict(run, f"input={path}", f"output={tmp_path / 'map.tif'}", "engine=torch", cwd=tmp_path)
        assert "Warning" in printed and name in printed and "gdalwarp" in printed


def test_a_map_in_use_raises_an_error_and_a_finished_map_is_kept(run: Path, scene: Path, tmp_path: Path) -> None:
    output = tmp_path / "map.tif"
    with output_lock(output):
        printed = error_line(
            "predict", f"checkpoint={run}", f"input={scene}", f"output={output}", "engine=torch", cwd=tmp_path
        )
    assert f"{output} is in use by process {os.getpid()} on " in printed and not output.exists()
    predict(run, f"input={scene}", f"output={output}", "engine=torch", cwd=tmp_path)
    before = output.stat().st_mtime_ns
    predict(run, f"input={scene}", f"output={output}", "engine=torch", cwd=tmp_path)
    assert output.stat().st_mtime_ns == before  # nothing was computed again
    predict(run, f"input={scene}", f"output={output}", "engine=torch", "tta=flips", cwd=tmp_path)
    assert output.stat().st_mtime_ns > before and [p.name for p in tmp_path.iterdir()] == ["map.tif"]
