"""The command `satseg.validate`, tiny datasets, and large files."""

import json
import tracemalloc

import numpy as np
import pytest
from commands import command
from dataset_faults import add_value_nine, check, finding_of, problems, rewrite
from dataset_files import make_image, make_mask, write

from satseg.data.labels.discovery import scheme_from_config
from satseg.data.samples import Sample
from satseg.data.splits import Random
from satseg.errors import ConfigError, DataError
from satseg.validate.facts import ScanPlan
from satseg.validate.parallel_scan import scan_all
from satseg.validate.scanning import scan
from satseg.validate.write import write_validation


def test_a_dataset_of_one_image_is_validated_without_a_split(tmp_path):
    mask = make_mask(0)
    write(tmp_path / "images/a.tif", make_image(0, mask))
    write(tmp_path / "masks/a.tif", add_value_nine(mask[None]))
    validation = check(tmp_path, images="images/*", masks="masks/*", split=Random())
    assert set(problems(validation)) == {"split", "mask_values"}
    assert "train split is empty" in finding_of(validation, "split").message


def test_a_dataset_that_cannot_be_opened_raises_an_error(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        check(tmp_path / "none")
    write(tmp_path / "train/images/a.tif", make_image(0, make_mask(0)))
    with pytest.raises(DataError, match="no mask matches"):
        check(tmp_path)


def test_reading_large_files_by_parts_gives_the_same_result(sound, monkeypatch):
    whole = check(sound)
    monkeypatch.setattr("satseg.validate.scanning.MAX_PART_VALUES", 1)
    monkeypatch.setattr("satseg.validate.scanning.BLOCK", 40)
    monkeypatch.setattr("satseg.validate.scanning.PIECE_PIXELS", 1600)
    parts = check(sound)
    assert parts.findings == whole.findings
    assert [t.class_pixels.tolist() for t in parts.totals.values()] == [
        t.class_pixels.tolist() for t in whole.totals.values()
    ]
    for one, other in zip(whole.facts, parts.facts, strict=True):
        assert np.allclose(one.image.thumbnail, other.image.thumbnail)
        assert all(np.array_equal(a, b) for a, b in zip(one.image.edges, other.image.edges, strict=True))
        assert np.array_equal(one.image.drawn, other.image.drawn)


OPTIONS = ("images=*/images/*", "masks=*/masks/*", "classes={land: 0, water: 1, forest: 2}")


def test_the_command_writes_json_and_html_reports_and_its_exit_code_depends_on_errors(sound, tmp_path):
    rewrite("train/masks/4.tif", add_value_nine)(sound)
    options = ["dataset=folder", "dataset/split=subfolder", f"dataset.root={sound}", "output=out", "workers=2"]
    done = command("validate", *options, *(f"dataset.{o}" for o in OPTIONS), cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Not sound: 1 error in 10 images (6 train, 2 val, 2 test), 3 classes."
    assert lines[1].startswith("error: masks with 600 pixels of 1 value outside the classes: 9 (600 px)")
    record = json.loads((tmp_path / "out/report.json").read_text())
    assert record["sound"] is False and record["findings"][0]["files"] == ["train/masks/4.tif"]
    assert sum(record["splits"]["val"]["class_shares"].values()) == pytest.approx(1)
    page = (tmp_path / "out/report.html").read_text()
    assert "train/masks/4.tif" in page and page.count("data:image/png;base64,") == 3  # balance, samples, places
    assert 'src="http' not in page and 'href="http' not in page


def test_a_dataset_with_only_warnings_is_usable(sound, tmp_path):
    options = ["dataset=folder", "dataset/split=subfolder", f"dataset.root={sound}", "output=out", "workers=2"]
    done = command("validate", *options, *(f"dataset.{o}" for o in OPTIONS), "min_class_share=0.4", cwd=tmp_path)
    record = json.loads((tmp_path / "out/report.json").read_text())
    grades = {finding["severity"] for finding in record["findings"]}
    assert "warning" in grades and "error" not in grades and record["sound"] is False
    assert done.returncode == 0 and done.stdout.startswith("Usable, but look at what was found: "), done.stdout


@pytest.mark.parametrize("dataset", ["synthetic", "synthetic_multispectral"])
def test_the_synthetic_datasets_have_no_problems_and_named_classes(tmp_path, dataset):
    thumbnail = ["dataset.size=256", "dataset.scenes={train: 3, val: 2, test: 2}"]
    done = command("validate", f"dataset={dataset}", *thumbnail, "output=out", "workers=1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "building" in json.loads((tmp_path / "out/report.json").read_text())["classes"]


def test_a_valid_dataset_is_reported_as_sound(sound, tmp_path):
    text = write_validation(check(sound), tmp_path / "out")
    assert text.startswith("Sound: 10 images (6 train, 2 val, 2 test), 3 classes.")
    assert json.loads((tmp_path / "out/report.json").read_text())["sound"] is True


def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("satseg.validate.scanning.MAX_PART_VALUES", 1)  # one row of tiles at a time
    plan = ScanPlan(scheme_from_config(["land", "water"]), None, None, drawn=1000)
    peaks = []
    for height in (2_000, 16_000):
        for kind in ("image", "mask"):
            array = np.random.default_rng(0).integers(0, 2, (1, height, 512)).astype(np.uint8)
            write(tmp_path / f"{kind}_{height}.tif", array, tiled=True, blockxsize=256, blockysize=256)
        sample = Sample("a", tmp_path / f"image_{height}.tif", tmp_path / f"mask_{height}.tif")
        tracemalloc.start()
        facts = scan(sample, plan)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert facts.mask.class_pixels.sum() == height * 512
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize("workers", [0, 1.5, "many"])
def test_an_invalid_number_of_workers_raises_an_error(workers):
    with pytest.raises(ConfigError, match=f"workers={workers}: expected a whole number"):
        scan_all([], ScanPlan(scheme_from_config(["land", "water"]), None, None, drawn=1), workers)
