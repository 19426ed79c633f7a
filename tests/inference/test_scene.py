"""Prediction of whole scenes: seams, output files, memory limits, and resuming after kills."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from commands import Forked, run_program
from hypothesis import given, settings
from hypothesis import strategies as st
from known_scenes import SPEC, LocalEngine, PointwiseEngine, WindowEngine, task, write_scene
from rio_cogeo.cogeo import cog_validate

from satseg.data.rasters.header import Window
from satseg.errors import ConfigError, ResourceError
from satseg.inference.scene import predict_scene
from satseg.inference.windows import plan_scene
from satseg.mapping.classmap import class_names_of


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    window=st.integers(4, 12).map(lambda n: 32 * n),
    data=st.data(),
)
def test_a_plan_covers_every_pixel_with_windows_of_equal_size_and_disjoint_seams(
    height: int, width: int, window: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, window // 4))
    plan = plan_scene(height, width, window=window, overlap=overlap)
    for pieces, length, side in ((plan.rows, height, plan.window[0]), (plan.cols, width, plan.window[1])):
        assert pieces[0].keep_start == 0 and pieces[-1].keep_stop == length
        assert {piece.stop - piece.start for piece in pieces} == {side} and side <= max(window, 1)
        for piece, after in pairwise(pieces):
            seam = piece.keep_stop - overlap // 2
            assert piece.keep_stop == after.keep_start
            assert after.start <= seam and seam + overlap <= piece.stop  # both windows contain the whole seam
            assert seam >= piece.keep_start + (
                overlap - overlap // 2 if piece.keep_start else 0
            )  # starts after the previous seam


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 420),
    width=st.integers(1, 420),
    overlap=st.integers(0, 32),
    blend=st.booleans(),
    batch_size=st.integers(1, 3),
)
def test_a_pointwise_network_gives_the_same_map_for_any_tiling(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, overlap: int, blend: bool, batch_size: int
) -> None:
    folder = tmp_path_factory.mktemp("scene")
    image = write_scene(folder / "scene.tif", height, width)
    job = task(PointwiseEngine(batch_size), folder / "scene.tif", folder / "map.tif", overlap=overlap, blend=blend)
    (path,) = predict_scene(job)
    expected = np.where((image == 0).all(0), 255, PointwiseEngine.classes(image))
    with rasterio.open(path) as found:
        assert np.array_equal(found.read(1), expected)
        assert (found.width, found.height, found.nodata, found.dtypes) == (width, height, 255, ("uint8",))


def test_the_map_is_a_cog_with_georeference_palette_and_class_names(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", 700, 900)
    (path,) = predict_scene(task(PointwiseEngine(), tmp_path / "scene.tif", tmp_path / "map.tif"))
    with rasterio.open(tmp_path / "scene.tif") as scene, rasterio.open(path) as found:
        assert (found.crs, found.transform, found.shape) == (scene.crs, scene.transform, scene.shape)
        assert [found.colormap(1)[i][:3] for i in range(3)] == list(SPEC.palette)
        assert class_names_of(found.tags()) == {0: "a", 1: "b", 2: "c"}
        assert found.block_shapes == [(512, 512)] and found.overviews(1)
        assert found.compression.name == "deflate"
    assert cog_validate(path, strict=True, quiet=True)[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.tif", "scene.tif"]  # no temporary files remain


def test_a_scene_without_georeference_gives_a_map_without_georeference(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", 300, 310, placed=False)
    (path,) = predict_scene(task(PointwiseEngine(), tmp_path / "scene.tif", tmp_path / "map.tif"))
    with rasterio.open(path) as found:
        assert found.crs is None and found.transform.is_identity


@pytest.mark.parametrize("size", [(513, 700), (97, 400), (128, 128), (129, 257)])
def test_with_an_overlap_beyond_the_receptive_field_tiling_does_not_change_probabilities(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    engine = LocalEngine()  # three 3x3 convolutions: a receptive field of three pixels to each side
    image = write_scene(tmp_path / "scene.tif", *size, nodata=False)
    job = task(engine, tmp_path / "scene.tif", tmp_path / "map.tif", overlap=8, blend=False, probabilities="all")
    _, path = predict_scene(job)
    whole = engine(torch.from_numpy(image)[None], torch.ones(1, *size, dtype=torch.bool))[0].softmax(0)
    np.testing.assert_allclose(read(path), whole.numpy(), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(129, 600), width=st.integers(129, 600), overlap=st.integers(1, 32))
def test_seams_are_blended_with_weights_that_sum_to_one(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, overlap: int
) -> None:
    """Compare with weighted sums over all windows, for logits that depend on the position in the window."""
    folder = tmp_path_factory.mktemp("blend")
    write_scene(folder / "scene.tif", height, width, nodata=False)
    job = task(WindowEngine(), folder / "scene.tif", folder / "map.tif", overlap=overlap, probabilities="all")
    _, path = predict_scene(job)
    plan, engine = job.maker.plan, WindowEngine()
    total, weight = np.zeros((3, height, width)), np.zeros((height, width))
    for rows in plan.rows:
        for cols in plan.cols:
            shape = rows.stop - rows.start, cols.stop - cols.start
            logits = engine(torch.zeros(1, 2, *shape), torch.ones(1, *shape, dtype=torch.bool))[0].numpy()
            w = np.outer(axis_weight(rows, height, overlap), axis_weight(cols, width, overlap))
            total[:, rows.start : rows.stop, cols.start : cols.stop] += logits * w
            weight[rows.start : rows.stop, cols.start : cols.stop] += w
    np.testing.assert_allclose(weight, 1, atol=1e-12)
    np.testing.assert_allclose(read(path), torch.from_numpy(total).softmax(0).numpy(), atol=1e-5)


def axis_weight(piece, length: int, zone: int) -> np.ndarray:
    """Return the weight of a window along an axis: Hann ramps centred on the seams with its neighbours."""
    x = np.arange(piece.start, piece.stop) + 0.5

    def rise(edge: float) -> np.ndarray:
        return np.sin(np.clip((x - (edge - zone // 2)) / zone, 0, 1) * math.pi / 2) ** 2

    up = rise(piece.keep_start) if piece.keep_start else np.ones(len(x))
    down = 1 - rise(piece.keep_stop) if piece.keep_stop < length else np.ones(len(x))
    return up * down


def test_probabilities_and_entropy_are_written_as_float_and_as_bytes(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", 200, 300)
    scene, valid = tmp_path / "scene.tif", ~(image == 0).all(0)
    logits = PointwiseEngine()(torch.from_numpy(image)[None], torch.from_numpy(valid)[None])[0].double()
    shares = logits.softmax(0).numpy()
    entropy = -(shares * np.log(shares)).sum(0) / np.log(3)
    exact = task(PointwiseEngine(), scene, tmp_path / "map.tif", probabilities="all", dtype="float32", entropy=True)
    _, all_path, entropy_path = predict_scene(exact)
    assert [all_path.name, entropy_path.name] == ["map_probabilities.tif", "map_entropy.tif"]
    np.testing.assert_allclose(read(all_path)[:, valid], shares[:, valid], atol=1e-5)
    np.testing.assert_allclose(read(entropy_path)[0][valid], entropy[valid], atol=1e-5)
    assert np.isnan(read(all_path)[:, ~valid]).all()
    with rasterio.open(all_path) as found:
        assert found.descriptions == ("a", "b", "c")
    bytes_ = task(PointwiseEngine(), scene, tmp_path / "map.tif", probabilities="top", dtype="uint8")
    _, top_path = predict_scene(bytes_)
    with rasterio.open(top_path) as found:
        stored, scale = found.read(1), found.scales[0]
    np.testing.assert_allclose(stored[valid] * scale, shares.max(0)[valid], atol=0.5 / 254 + 1e-6)
    assert (stored[~valid] == 255).all()


def test_the_memory_limit_does_not_change_the_map_and_too_low_a_limit_raises_an_error(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", 900, 900)
    maps = [
        predict_scene(task(WindowEngine(), tmp_path / "scene.tif", tmp_path / f"{gb}.tif", max_ram_gb=gb))[0]
        for gb in (0.07, 2.0)
    ]
    assert maps[0].read_bytes() == maps[1].read_bytes()
    with pytest.raises(ConfigError, match=r"max_ram_gb=0\.01: windows of .* need .* smaller window_size"):
        predict_scene(task(WindowEngine(), tmp_path / "scene.tif", tmp_path / "x.tif", max_ram_gb=0.01))
    assert not [path for path in tmp_path.iterdir() if "x.tif" in path.name]


def test_a_window_of_a_scene_is_mapped_with_its_own_georeference(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", 400, 500)
    job = task(PointwiseEngine(), tmp_path / "scene.tif", tmp_path / "map.tif", area=Window(120, 60, 333, 222))
    (path,) = predict_scene(job)
    part = image[:, 60:282, 120:453]
    assert np.array_equal(read(path)[0], np.where((part == 0).all(0), 255, PointwiseEngine.classes(part)))
    with rasterio.open(path) as found, rasterio.open(tmp_path / "scene.tif") as scene:
        assert found.transform == scene.window_transform(rasterio.windows.Window(120, 60, 333, 222))


KILLED_AFTER_WINDOWS = """
import sys, time, os, signal
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from known_scenes import WindowEngine, task
from satseg.inference.scene import predict_scene
engine, left = WindowEngine(), int(sys.argv[4])
def dying(image, valid):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return engine(image, valid)
class Dying(WindowEngine):
    def __call__(self, image, valid):
        return dying(image, valid)
job = task(Dying(), Path(sys.argv[2]), Path(sys.argv[3]), entropy=True)
predict_scene(job, lambda pixels: print(pixels, flush=True))
"""


def run_killed(folder: Path, output: Path, windows: int) -> subprocess.CompletedProcess[str]:
    """Predict in a separate process that is killed after a number of windows."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = killed_arguments(folder, output, windows)
    return run_program(arguments, env=environment, cwd=folder)


def killed_arguments(folder: Path, output: Path, windows: int) -> list[str]:
    helpers = str(Path(__file__).resolve().parents[1] / "helpers")
    return [sys.executable, "-c", KILLED_AFTER_WINDOWS, helpers, str(folder / "scene.tif"), str(output), str(windows)]


def test_resuming_after_kills_gives_the_same_bytes(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", 700, 500)
    whole = run_killed(tmp_path, tmp_path / "whole" / "map.tif", 10**6)
    assert whole.returncode == 0, whole.stderr
    output = tmp_path / "stopped" / "map.tif"
    for windows in (0, 7, 3, 11):  # in the first strip, then within later ones
        done = run_killed(tmp_path, output, windows)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not output.exists()
    last = run_killed(tmp_path, output, 10**6)
    assert last.returncode == 0
    assert int(last.stdout.split()[0]) > 0  # finished strips are not computed again
    for name in ("map.tif", "map_entropy.tif"):
        assert (tmp_path / "whole" / name).read_bytes() == (output.parent / name).read_bytes()


@pytest.mark.parametrize("half_written", ["map_finished.tif", "entropy_finished.tif"])
def test_killing_while_final_files_are_written_leaves_no_incomplete_map(tmp_path: Path, half_written: str) -> None:
    write_scene(tmp_path / "scene.tif", 1500, 1500)
    whole = run_killed(tmp_path, tmp_path / "whole" / "map.tif", 10**6)
    assert whole.returncode == 0, whole.stderr
    output = tmp_path / "stopped" / "map.tif"
    with Forked(killed_arguments(tmp_path, output, 10**6), stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
        growing = output.parent / ".map.tif.partial" / half_written
        while process.poll() is None and not growing.exists():
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL and not output.exists()
    last = run_killed(tmp_path, output, 0)  # no window is left to compute
    assert last.returncode == 0, last.stderr
    for name in ("map.tif", "map_entropy.tif"):
        assert (tmp_path / "whole" / name).read_bytes() == (output.parent / name).read_bytes()
    assert sorted(path.name for path in output.parent.iterdir()) == ["map.tif", "map_entropy.tif"]


def test_finished_strips_of_another_model_are_not_reused(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", 700, 500)
    output = tmp_path / "map.tif"
    assert run_killed(tmp_path, output, 10).returncode == -signal.SIGKILL
    journal = json.loads((tmp_path / ".map.tif.partial" / "journal.json").read_text())
    assert journal["finished"] > 0
    (path,) = predict_scene(task(PointwiseEngine(), tmp_path / "scene.tif", output))
    image = read(tmp_path / "scene.tif")
    assert np.array_equal(read(path)[0], np.where((image == 0).all(0), 255, PointwiseEngine.classes(image)))


def test_a_finished_map_is_kept_unless_other_overviews_are_requested(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", 1500, 1500, nodata=False)
    coarse, made = [], []
    for overviews in ("nearest", "nearest", "mode"):
        job = task(PointwiseEngine(), tmp_path / "scene.tif", tmp_path / "map.tif", overviews=overviews)
        (path,) = predict_scene(job)
        made.append(path.stat().st_mtime_ns)
        with rasterio.open(path, overview_level=0) as found:
            coarse.append(found.read(1))
    assert made[0] == made[1] < made[2]
    blocks = read(path)[0].reshape(750, 2, 750, 2).transpose(0, 2, 1, 3).reshape(750, 750, 4)
    counts = (blocks[..., None] == np.arange(3)).sum(2)
    most = np.take_along_axis(counts, coarse[2][..., None].astype(int), 2)[..., 0]
    assert np.array_equal(most, counts.max(2)) and not np.array_equal(coarse[0], coarse[2])


def test_too_little_disk_space_raises_an_error_before_computing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "scene.tif", 300, 300)
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("satseg.inference.workspace.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(ResourceError, match=r"has 1\.0 kB free, but up to [1-9]\d* kB are needed; make "):
        predict_scene(task(PointwiseEngine(), tmp_path / "scene.tif", tmp_path / "map.tif"))
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


PEAK_MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from known_scenes import PointwiseEngine, task
from satseg.inference.scene import predict_scene
predict_scene(task(PointwiseEngine(), Path(sys.argv[2]), Path(sys.argv[3]), window=512))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_size_of_the_scene(tmp_path: Path) -> None:
    peaks = []
    for height, width in ((5_000, 5_000), (12_000, 12_000), (1_000, 50_000), (50_000, 1_000)):
        write_scene(tmp_path / f"{width}.tif", height, width, sparse=True)
        helpers = str(Path(__file__).resolve().parents[1] / "helpers")
        arguments = [
            sys.executable,
            "-c",
            PEAK_MEMORY,
            helpers,
            str(tmp_path / f"{width}.tif"),
            str(tmp_path / "map.tif"),
        ]
        done = subprocess.run(arguments, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert max(peaks) < 1.1 * peaks[0]


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from known_scenes import PointwiseEngine, task
from satseg.errors import ResourceError
from satseg.inference.scene import predict_scene
job = task(PointwiseEngine(), Path(sys.argv[2]), Path(sys.argv[3]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
try:
    predict_scene(job)
except ResourceError as error:
    print(error)
"""


@pytest.mark.parametrize("kilobytes", [3, 300, 1000])
def test_a_full_disk_gives_an_error_of_one_line_and_no_map(tmp_path: Path, kilobytes: int) -> None:
    write_scene(tmp_path / "scene.tif", 900, 900)
    helpers = str(Path(__file__).resolve().parents[1] / "helpers")
    arguments = [sys.executable, "-c", FULL_DISK, helpers, str(tmp_path / "scene.tif"), str(tmp_path / "map.tif")]
    done = subprocess.run([*arguments, str(kilobytes * 1024)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert len(lines) == 1 and "cannot be written" in lines[0]
    assert not (tmp_path / "map.tif").exists()
