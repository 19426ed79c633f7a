"""Figures: curves, confusion matrices, samples, class balance and footprints."""

import math

import numpy as np
import pytest
from PIL import Image

from satseg.errors import ResourceError
from satseg.visualization.examples import Example
from satseg.visualization.figures import (
    plot_balance,
    plot_confusion_matrix,
    plot_curves,
    plot_footprints,
    plot_samples,
)
from satseg.visualization.figures.canvas import shorten
from satseg.visualization.figures.confusion import short_count
from satseg.visualization.palette import ERROR_RED, IGNORED_GREY, default_palette

HOSTILE = ("_hidden", r"$\frac{", "<script>", "a\nb", "Straße \udcff", "n" * 200)


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def share(picture, colour):
    return float((picture == colour).all(-1).mean())


def curve_rows(epochs, names):
    return [
        {
            "epoch": str(epoch),
            "lr": 0.001 / (epoch + 1),
            "train/loss": f"{1 / (epoch + 1)}",
            "val/loss": "" if epoch % 2 else None,
            "val/miou": epoch / 100,
            "train/images_per_second": 12.5,
            **{f"val/iou/{name}": math.nan if i == 1 else 0.5 for i, name in enumerate(names)},
        }
        for epoch in range(epochs)
    ]


@pytest.mark.parametrize("rows", [[], curve_rows(1, "ab"), curve_rows(3, HOSTILE), curve_rows(60, default_palette(40))])
def test_curves_are_drawn_for_any_number_of_epochs_classes_and_missing_values(tmp_path, rows):
    rows = [{str(key): value for key, value in row.items()} for row in rows]
    plot_curves(rows, tmp_path / "new folder" / "curves.png")
    picture = pixels(tmp_path / "new folder" / "curves.png")
    assert picture.shape == (880, 1320, 3)
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["curves.png"]


def test_curves_depend_on_the_values(tmp_path):
    rows = curve_rows(5, "ab")
    plot_curves(rows, tmp_path / "a.png")
    plot_curves([row | {"val/iou/a": 0.1} for row in rows], tmp_path / "b.png")
    changed = (pixels(tmp_path / "a.png") != pixels(tmp_path / "b.png")).any(-1)
    assert changed[440:].any()
    assert not changed[:440].any()


@pytest.mark.parametrize("count", [2, 5, 13, 30])
def test_confusion_matrices_are_drawn_for_few_and_many_classes(tmp_path, count):
    matrix = np.diag(np.arange(count) * 1000)  # the first class is absent, all others are correct
    names = [f"class {i}" for i in range(count)]
    plot_confusion_matrix(matrix, names, tmp_path / "matrix.png")
    picture = pixels(tmp_path / "matrix.png")
    assert max(picture.shape) <= 1700
    assert share(picture, (8, 48, 107)) > 0.1 / count**1.5  # the darkest blue, for a full row in one cell


def test_confusion_matrices_accept_any_class_names(tmp_path):
    plot_confusion_matrix(np.ones((6, 6), np.int64), HOSTILE, tmp_path / "matrix.png")
    assert pixels(tmp_path / "matrix.png").shape[1] < 1200


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (12_345, "12.3k"), (999_960, "1M"), (4_100_000, "4.1M"), (2e10, "20G")],
)
def test_counts_are_shortened(count, text):
    assert short_count(count) == text


def test_samples_show_image_mask_prediction_and_errors(tmp_path):
    truth = np.zeros((700, 350), np.uint8)
    truth[:350] = 1
    truth[:70] = 255
    predicted = np.zeros((700, 350), np.int64)
    predicted[:630] = 1
    rgb = np.full((700, 350, 3), (1, 200, 3), np.uint8)
    palette = ((10, 20, 30), (240, 120, 60))
    example = Example.of("one", rgb, truth, predicted, 2)
    assert example.wrong == pytest.approx(4 / 9)  # 280 of the 630 labelled rows
    assert example.miou == pytest.approx((70 / 350 + 280 / 560) / 2)
    plot_samples([example], ("a", "b"), palette, tmp_path / "samples.png")
    picture = pixels(tmp_path / "samples.png")
    cells = [picture[:, 16 + 360 * i :][:, :262] for i in range(4)]  # scaled to a height of 525, so 262 wide
    height = 525 * 262
    assert (cells[0] == (1, 200, 3)).all(-1).sum() == height
    truth_shares = [(cells[1] == colour).all(-1)[:-40].sum() / height for colour in (*palette, IGNORED_GREY)]
    assert truth_shares == pytest.approx([0.5, 0.4, 0.1], abs=0.004)
    shares = [(cells[2] == colour).all(-1)[:-40].sum() / height for colour in palette]
    assert shares == pytest.approx([0.1, 0.9], abs=0.004)
    wrong = [(cells[3] == colour).all(-1)[:-40].sum() / height for colour in (ERROR_RED, IGNORED_GREY)]
    assert wrong == pytest.approx([0.4, 0.1], abs=0.004)


def test_samples_of_any_size_and_name_share_one_grid(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for height, width in ((1, 1), (20, 300), (900, 30), (1500, 2000)):
        mask = rng.integers(0, 50, (height, width), dtype=np.uint8)
        rgb = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        rows.append(Example.of(f"Tile 1/$x$ {width}", rgb, mask, mask, 50))
    names = [f"{HOSTILE[i % len(HOSTILE)]} {i}" for i in range(50)]
    plot_samples(rows, names, default_palette(50), tmp_path / "samples.png")
    assert pixels(tmp_path / "samples.png").shape[1] == 1462


def test_a_failed_figure_leaves_no_incomplete_file(tmp_path):
    folder = tmp_path / "matrix.png"
    (folder / "older").mkdir(parents=True)
    with pytest.raises(ResourceError):
        plot_confusion_matrix(np.ones((3, 3), np.int64), ("a", "b", "c"), folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_confusion_matrix_of_a_wrong_size_raises_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"is \(3, 3\), but this is \(3, 2\)"):
        plot_confusion_matrix(np.ones((3, 2)), ("a", "b", "c"), tmp_path / "matrix.png")


@pytest.mark.parametrize(
    ("text", "keep_end", "expected"),
    [("abcdef", False, "abc…"), ("abcdef", True, "…def"), ("ab", False, "ab"), ("a\n b\t", False, "a b")],
)
def test_names_are_shortened_to_one_line(text, keep_end, expected):
    assert shorten(text, 4, keep_end) == expected


def test_the_balance_plot_fills_bars_in_proportion_to_class_shares(tmp_path):
    palette = ((200, 0, 0), (0, 0, 200))
    shares = {"train": np.array([0.75, 0.25]), HOSTILE[1]: np.array([0.0, 1.0])}
    uncounted = {"train": 0.0, HOSTILE[1]: 0.5}
    plot_balance(shares, uncounted, HOSTILE[:2], palette, tmp_path / "balance.png")
    picture = pixels(tmp_path / "balance.png")
    areas = [np.count_nonzero((picture == colour).all(-1)) for colour in (*palette, IGNORED_GREY)]
    assert areas[0] / areas[1] == pytest.approx(1.0, abs=0.05)  # 0.75 of a full bar against 0.25 and 0.5
    assert areas[0] / areas[2] == pytest.approx(1.5, abs=0.08)


@pytest.mark.parametrize("number", [1, 300])
def test_footprints_of_one_and_of_many_images_are_drawn(tmp_path, number):
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * 0.01
    outlines = {split: [square + np.array([i, shift]) for i in range(number)] for shift, split in enumerate(HOSTILE)}
    plot_footprints(outlines, ("longitude, degrees", "latitude, degrees"), tmp_path / "map.png")
    picture = pixels(tmp_path / "map.png")
    assert max(picture.shape) < 1500 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
