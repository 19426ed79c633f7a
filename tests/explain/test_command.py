"""The command `satseg.explain`, on a tiny model."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from commands import TINY, command, error_line
from PIL import Image

from satseg.predict.models import open_models
from satseg.serve.describing import trust_in
from satseg.serve.served_models import ServedModel, predict_options


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain (1), ü=x")
    done = command("train", *TINY, "run_dir=run", "trainer=debug", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def image(run: Path) -> Path:
    return next(run.parent.rglob("test/images/*.tif"))


def explain(run: Path, *options: str) -> tuple[list[dict], Path]:
    output = run.parent / "out"
    done = command("explain", f"checkpoint={run}", f"output={output}", *options, cwd=run.parent)
    assert done.returncode == 0, done.stderr
    return json.loads((output / "explanations.json").read_text()), output


def test_explaining_a_window_writes_a_georeferenced_map_overlay_and_sheet(run: Path, image: Path) -> None:
    rows, output = explain(
        run, f"input={image}", "window=[20,10,70,50]", "target=water", "region=[5,5,20,20]", "layer=[auto,decoder]"
    )
    assert [row["layer"].split(".")[0] for row in rows] == ["encoder", "decoder"]
    assert {row["method"] for row in rows} == {"gradcam"}
    assert all(row["region_pixels"] == 400 for row in rows)
    with rasterio.open(image) as source, rasterio.open(output / rows[0]["map"]) as written:
        assert written.crs == source.crs and written.shape == (50, 70) and written.dtypes == ("float32",)
        assert written.transform == source.transform @ source.transform.translation(20, 10)
        assert np.isfinite(written.read()).all() and written.read().std() > 0
    assert Image.open(output / rows[1]["overlay"]).size == (70, 50)
    assert Image.open(output / rows[1]["sheet"]).width > 1000


def test_all_classes_of_a_split_and_a_contrast_are_explained(run: Path) -> None:
    rows, _ = explain(run, "split=test", "target=all", "region=true", "method=hirescam", "layer=decoder")
    assert len({row["image"] for row in rows}) == 2 and len({row["target"] for row in rows}) >= 3
    rows, output = explain(
        run, "split=test", "contrast=[water,forest]", "region=[60,60]", "method=integrated_gradients"
    )
    assert {row["target"] for row in rows} == {"water against forest"} and set(rows[0]["bands"]) == {
        "red",
        "green",
        "blue",
    }
    assert all((output / row["sheet"]).is_file() and row["adds"]["words"] for row in rows)


def test_the_region_can_be_a_mask_file(run: Path, image: Path) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[50:60, 50:70] = 1
    path = run.parent / "region (1).png"
    Image.fromarray(mask).save(path)
    rows, _ = explain(run, f"input={image}", "target=water", f"region={path}")
    assert rows[0]["region"] == "mask" and rows[0]["region_pixels"] == 200
    assert (rows[0]["method"], rows[0]["layer"]) == ("occlusion", "input")
    rows, _ = explain(run, f"input={image}", "target=water", f"region={path}", "window=[0,0,60,64]")
    assert rows[0]["region_pixels"] == 100  # the window applies to the mask, too


def test_files_with_the_same_name_and_other_windows_do_not_overwrite_each_other(run: Path, image: Path) -> None:
    (run.parent / "other").mkdir()
    copy = run.parent / "other" / image.name
    copy.write_bytes(image.read_bytes())
    (copy.parent / "._hidden.tif").write_bytes(b"")
    asked = ["target=water", "region=[60,60]", "window=[0,0,64,64]", "layer=decoder.blocks[1]"]
    rows, output = explain(run, f"input=['{image}','{copy.parent}']", *asked)
    assert len(rows) == 2 and rows[0]["map"] != rows[1]["map"] and rows[0]["layer"] == "decoder.blocks.1"
    moved, _ = explain(run, f"input={image}", *asked[:1], "region=[10,20]", "window=[9,9,64,64]", "layer=decoder")
    assert len({row["map"] for row in rows + moved}) == 3
    assert all((output / row["map"]).is_file() for row in rows + moved)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["target=water"], "Give input="),
        (["split=test", "target=banana"], "target=banana: choose all, or one of water, forest"),
        (["split=test"], "target=None: choose all"),
        (["split=test", "contrast=[water]"], "contrast= takes two classes"),
        (["split=test", "target=water", "method=banana"], "method=banana: choose gradcam"),
        (["split=test", "target=water", "method=occlusion", "layer=decoder"], "layer= is for method=gradcam"),
        (["split=test", "target=water", "layer=banana", "region=[60,60]"], "usable layers are encoder"),
        (["input=nothing (1).tif", "target=water"], "nothing (1).tif is not there"),
        (["input=IMAGE", "target=water", "region=true"], "region=true needs labels"),
        (["input=IMAGE", "target=water", "window=[1,2]"], "expected '[column,row,width,height]'"),
        (["input=IMAGE", "target=water", "window=[500,500,20,20]", "region=[3,3]"], "lies outside"),
        (["split=test", "target=water", "window=[500,500,20,20]", "region=[3,3]"], "which has 128 x 128 pixels"),
        (["input=a**b/*.tif", "target=water"], "input=a**b"),
        (["split=test", "target=water", "offset=-1000"], "leave out offset="),
    ],
)
def test_invalid_options_give_an_error_of_one_line(run: Path, image: Path, options: list[str], expected: str) -> None:
    options = [f"input={image}" if o == "input=IMAGE" else o for o in options]
    assert expected in error_line("explain", f"checkpoint={run}", *options, cwd=run.parent)


def test_the_report_diagnoses_a_whole_split_on_one_page(run: Path) -> None:
    output = run / "diagnosis" / "test"
    done = command("explain", f"checkpoint={run}", "split=test", "report=true", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    found = json.loads((output / "diagnosis.json").read_text())
    scores = json.loads((run / "evaluation" / "test" / "scores.json").read_text())["scores"]
    matrix = np.array(found["confusion_matrix"])
    assert np.trace(matrix) / matrix.sum() == pytest.approx(scores["accuracy"])
    wrong = matrix - np.diag(np.diag(matrix))
    first = found["pairs"][0]
    assert (
        first["pixels"] == wrong.max() == wrong[tuple(found["classes"].index(first[k]) for k in ("truth", "predicted"))]
    )
    assert {b["bands"][0] for b in found["bands"]} == {"red", "green", "blue"}
    tested = found["trust"]["maps"]
    assert [t["method"] for t in tested] == ["occlusion", "gradcam"] and tested[1]["layer"].startswith("encoder")
    options = predict_options(checkpoint=str(run))
    served = ServedModel("run", options, open_models(options))  # like the app
    for row in tested:
        verdict = trust_in(served, row["method"], row["layer"]).verdict
        could_be_tested = row["verdict"] != "could not be tested"
        assert verdict == ("passed" if row["passes"] else "failed" if could_be_tested else "untested")
    assert trust_in(served, "hirescam", tested[1]["layer"]).verdict == "untested"
    page = (output / "diagnosis.html").read_text()
    assert all(line in html.unescape(page) for line in found["summary"])
    assert "http" not in re.sub(r"base64,[^\"]+", "", page)
    assert page.count("<img") == page.count("data:image/") >= 2
    assert all(line in done.stdout for line in found["summary"])
    shares = wrong / np.maximum(matrix.sum(1, keepdims=True), 1)
    listed = {(found["classes"].index(p["truth"]), found["classes"].index(p["predicted"])) for p in found["pairs"]}
    assert {np.unravel_index(v.argmax(), v.shape) for v in (wrong, np.where(wrong >= 16, shares, 0))} <= listed
    assert all(action["what"] in done.stdout and action["what"] in html.unescape(page) for action in found["actions"])
    assert {t["verdict"] for t in tested} <= {"passes", "fails", "could not be tested"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "give a split"),
        (["split=banana"], "split=banana"),
        (["split=test", "target=water"], "leave out target="),
        (["split=test", "input=x.tif"], "leave out input="),
        (["split=test", "method=hirescam"], "leave out method="),
        (["split=test", "report=maybe"], "expected true or false"),
    ],
)
def test_the_report_rejects_options_that_it_does_not_use(run: Path, options: list[str], expected: str) -> None:
    options = ["report=true", *options] if "report=maybe" not in options else options
    assert expected in error_line("explain", f"checkpoint={run}", *options, cwd=run.parent)
