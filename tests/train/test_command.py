"""Complete training runs through the commands, on tiny data."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from commands import TINY, Forked, command, error_line
from PIL import Image
from safetensors.numpy import load_file
from sklearn.metrics import confusion_matrix


def train(cwd: Path, *options: str) -> Path:
    done = command("train", *TINY, "run_dir=run", *options, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("a folder, with (odd) näme=1"), "logger=[csv,tensorboard]")


def test_a_run_folder_contains_all_files(run: Path) -> None:
    for name in [
        "config.yaml",
        "environment.json",
        "data.json",
        "metrics.csv",
        "summary.json",
        "report.html",
        "model.safetensors",
        "train.log",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "figures/curves.png",
        "evaluation/val/scores.json",
        "tensorboard",
        "evaluation/test/samples.png",
        "evaluation/test/worst.png",
        "evaluation/test/confusion_matrix.png",
    ]:
        assert (run / name).exists(), name
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"] and [row["step"] for row in rows] == ["4", "8"]
    for key in (
        "train/loss",
        "val/loss",
        "val/miou",
        "val/micro_iou",
        "val/iou/water",
        "train/images_per_second",
        "lr",
    ):
        assert all(row[key] for row in rows), key
    data = json.loads((run / "data.json").read_text())
    assert {k: len(v) for k, v in data["splits"].items()} == {"train": 2, "val": 1, "test": 2}
    assert len(data["fingerprint"]) == 64
    assert "<img" in (run / "report.html").read_text()
    assert not list(run.rglob("*.tmp*"))


def test_the_log_has_one_line_per_epoch_and_next_steps_that_work(run: Path, tmp_path: Path) -> None:
    log = [line.partition(": ")[2] for line in (run / "train.log").read_text().splitlines()]
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, 1):
        (line,) = [line for line in log if line.startswith(f"Epoch {number} of 2: ")]
        assert f"train loss {float(row['train/loss']):.4f}, val/miou {float(row['val/miou']):.4f}" in line
        assert line.endswith(" left") == (number == 1)
    steps = [shlex.split(line[line.index("python -m ") :]) for line in log if "python -m satseg." in line]
    assert [step[2] for step in steps] == ["satseg.evaluate", "satseg.predict", "satseg.explain", "satseg.app"]
    (scene,) = [option.removeprefix("input=") for option in steps[1] if option.startswith("input=")]
    assert (run.parent / scene).parts[-3:-1] == ("test", "images")
    scored = command("evaluate", *steps[0][3:], cwd=run.parent)
    assert scored.returncode == 0 and "split=test" in scored.stderr, scored.stderr
    mapped = command("predict", *steps[1][3:], cwd=run.parent)
    assert mapped.returncode == 0, mapped.stderr
    with rasterio.open(run / "predictions" / Path(scene).name) as map_, rasterio.open(scene) as source:
        assert map_.shape == source.shape
    without = [steps[0][3], "+dataset.scenes={train: 2, val: 1, test: 0}", f"output={tmp_path}"]
    scored = command("evaluate", *without, cwd=run.parent)
    assert scored.returncode == 0 and "split=val, as there is no test split" in scored.stderr, scored.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["split"] == "val"
    for step in steps[2:]:  # these take minutes or do not end
        shown = command(step[2].removeprefix("satseg."), *step[3:], "--cfg", "job", cwd=run.parent)
        assert shown.returncode == 0 and "checkpoint: run" in shown.stdout.splitlines()


@pytest.mark.parametrize("file", ["", "model.safetensors", "checkpoints/best.ckpt"])
def test_evaluate_gives_exactly_the_scores_of_the_run(run: Path, file: str) -> None:
    trained = json.loads((run / "evaluation/test/scores.json").read_text())
    (run / "evaluation/test/scores.json").unlink()
    done = command("evaluate", f"checkpoint={run / file}", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "evaluation/test/scores.json").read_text()) == trained
    assert json.loads((run / "summary.json").read_text())["scores"]["test"]["miou"] == trained["scores"]["miou"]


def test_the_confusion_matrix_equals_that_of_scikit_learn_on_the_predictions(run: Path) -> None:
    import torch

    from satseg import load_model

    network = load_model(run)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in `command`: the number of threads changes the rounding
    total = np.zeros((7, 7), int)
    for path in sorted((run.parent / "cache").rglob("test/images/*.tif")):
        with rasterio.open(path) as image, rasterio.open(str(path).replace("images", "masks")) as mask:
            pixels, truth = torch.from_numpy(image.read()), mask.read(1)
        with torch.no_grad():
            predicted = network(pixels[None]).argmax(1)[0].numpy()
        counted = (truth != 255) & (pixels.numpy() != 0).any(0)
        total += confusion_matrix(truth[counted], predicted[counted], labels=range(7))
    torch.set_num_threads(threads)
    with (run / "evaluation/test/confusion_matrix.csv").open() as file:
        written = np.array([row[1:] for row in csv.reader(file)][1:], int)
    assert (written == total).all()


def test_the_model_file_has_the_best_weights_and_images_are_sorted_worst_first(run: Path) -> None:
    with (run / "evaluation/test/images.csv").open() as file:
        scores = [float(row["miou"]) for row in csv.DictReader(file)]
    assert len(scores) == 2 and scores == sorted(scores)
    with (run / "metrics.csv").open() as file:
        best = max(float(row["val/miou"]) for row in csv.DictReader(file))
    assert json.loads((run / "evaluation/val/scores.json").read_text())["scores"]["miou"] == pytest.approx(
        best,
        abs=1e-3,  # weights are channels-last in training, so single pixels may differ
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(
    run: Path, tmp_path: Path, workers: int
) -> None:
    again = train(tmp_path, f"dataset.num_workers={workers}")
    first, second = load_file(run / "model.safetensors"), load_file(again / "model.safetensors")
    assert all((first[k] == second[k]).all() for k in first)


@pytest.mark.slow
def test_resuming_with_more_epochs_gives_the_weights_of_a_longer_run(run: Path, tmp_path: Path) -> None:
    stopped = train(tmp_path, "trainer.max_epochs=1", "scheduler=none", "ema=false")
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = train(whole, "scheduler=none", "ema=false")
    (stopped / "summary.json").unlink()
    done = command("train", f"resume_from={stopped}", "trainer.max_epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (stopped / "metrics.csv").read_text().count("\n") == 3
    a, b = (load_file(folder / "model.safetensors") for folder in (stopped, expected))
    assert all((a[k] == b[k]).all() for k in a)


@pytest.mark.slow
def test_a_custom_model_can_be_trained_and_evaluated(tmp_path: Path) -> None:
    """The class is re-exported by a package, and holds a tensor that is neither parameter nor buffer."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("from mine.networks import Mine\n")
    (tmp_path / "mine/networks.py").write_text(
        "import torch\nfrom segmentation_models_pytorch import Unet\n\n"
        "class Mine(Unet):\n"
        "    def __init__(self, **options):\n"
        "        super().__init__(**options)\n"
        "        self.factor = lambda factor=torch.ones(1): factor\n\n"
        "    def forward(self, image):\n"
        "        return super().forward(image) * self.factor()\n"
    )
    (tmp_path / "my_conf/model").mkdir(parents=True)
    (tmp_path / "my_conf/model/mine.yaml").write_text(
        "_target_: mine.Mine\nencoder_name: ${backbone.encoder_name}\nencoder_weights: ${backbone.weights}\n"
        "decoder_channels: [32, 16, 16, 8, 8]\n"
    )
    options = [*TINY, "run_dir=run", "model=mine", "trainer=debug"]
    done = command("train", "--config-dir", str(tmp_path / "my_conf"), *options, cwd=tmp_path)
    folder = tmp_path / "run"
    assert done.returncode == 0, done.stderr
    assert "mine.Mine, which is not allowed" in error_line("evaluate", f"checkpoint={folder}", cwd=tmp_path)
    done = command("evaluate", f"checkpoint={folder}", "trusted_modules=[mine]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_diverged_loss_gives_an_error_of_one_line_and_no_model(tmp_path: Path) -> None:
    options = [*TINY, "run_dir=run", "optimizer=sgd", "optimizer.lr=1e30", "scheduler=none"]
    line = error_line("train", *options, "ema=false", cwd=tmp_path)
    assert "DivergedError: train/loss is" in line and "optimizer.lr" in line
    assert not [path.name for path in (tmp_path / "run").rglob("*") if path.suffix in (".safetensors", ".ckpt")]
    Image.new("RGB", (64, 64)).save(tmp_path / "image.png")
    assert "model.safetensors does not exist" in error_line(
        "predict", "checkpoint=run", "input=image.png", cwd=tmp_path
    )


@pytest.mark.slow
def test_plateau_works_with_epochs_without_validation(tmp_path: Path) -> None:
    train(tmp_path, "scheduler=plateau", "trainer.check_val_every_n_epoch=2")


@pytest.mark.slow
def test_init_from_does_not_download_weights(run: Path, tmp_path: Path) -> None:
    done = command("train", *TINY, "trainer=debug", "backbone.weights=hub", f"init_from={run}", cwd=tmp_path)
    assert done.returncode == 0 and "Downloading" not in done.stderr, done.stderr


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_and_prints_how_to_resume(tmp_path: Path) -> None:
    options = [*TINY, "trainer.max_epochs=500", "seed=1,2", "runs_dir=runs (1)"]
    process = Forked(
        [sys.executable, "-m", "satseg.train", "-m", *options],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(tmp_path.rglob("checkpoints/last.ckpt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in stderr, stderr
    assert stderr.count("Interrupted. ") == 1
    (resume,) = [line.split("resume_from=")[1] for line in stderr.splitlines() if "resume_from=" in line]
    assert (tmp_path / shlex.split(resume)[0] / "checkpoints/last.ckpt").is_file()
    names = [path.parent.name for path in tmp_path.rglob("config.yaml")]
    assert names == ["000_seed-1"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["loss=banana"], "loss=banana does not exist; choose one of ce_dice, cross_entropy"),
        (["backbone.encoder_name=resnet19"], "no such backbone; did you mean resnet18, "),
        (["dataset.batch_size=auto", "trainer.max_epochs=auto", "trainer.precision=bf16-true"], "choose 32-true"),
        (["optimzer.lr=1"], "no option optimzer; did you mean optimizer"),
        (["optimizer.lr=abc"], "optimizer.lr=abc: expected a number"),
        (["ema=3"], "ema=3: expected true or false"),
        (["dataset=folder"], "dataset.root=/path/to/the/data"),
        (["dataset=folder", "dataset.root=/no/such, folder"], "dataset.root=/no/such, folder is not a folder"),
        (["trainer.devices=0"], "trainer.devices=0: expected a number of devices"),
        (["trainer.max_epochs=-1"], "no epoch would be scored"),
        (
            ["dataset=folder", "dataset.images=Tile (1)/*", "dataset.root=."],
            "no image matches dataset.images=Tile (1)/*",
        ),
        (["run_dir=/proc/nothing"], "/proc/nothing cannot be written"),
        (["init_from=nowhere"], "nowhere does not exist"),
        (["resume_from=latest"], "no unfinished run"),
        (["seed=-1"], "seed=-1: expected a whole number from 0"),
        (["logger=[csv,banana]"], "logger=banana does not exist; choose one of csv, none, tensorboard, wandb"),
        (["trainer.max_epochs=1", "trainer.check_val_every_n_epoch=2"], "no epoch would be scored"),
        (["monitor=val/banana", "dataset.size=128"], "monitor=val/banana: there is no such score; choose one of"),
        (
            ["model=deeplabv3plus", "model.decoder_channels=256", "dataset.batch_size=1", "dataset.size=128"],
            "needs at least 2",
        ),
    ],
)
def test_invalid_options_give_an_error_of_one_line(options: list[str], expected: str, tmp_path: Path) -> None:
    line = error_line("train", *TINY[:1], *options, cwd=tmp_path)
    assert expected in line
    assert not [path.name for path in tmp_path.iterdir() if path.name != "cache"]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("output=/proc/nothing", "/proc/nothing cannot be written"),
        ("split=banana", "choose train, val, test"),
        ("dataset.root=/nowhere", "dataset.root=/nowhere is not a folder"),
        ("dataset=folder", "dataset.root=/path/to/the/data"),
        ("dataset=synthetic_multispectral", "uint16 images with the bands blue"),
    ],
)
def test_invalid_options_of_evaluate_give_an_error_of_one_line(run: Path, option: str, expected: str) -> None:
    assert expected in error_line("evaluate", f"checkpoint={run}", option, cwd=run.parent)


@pytest.mark.slow
def test_epochs_without_validation_have_no_scores(tmp_path: Path) -> None:
    folder = train(tmp_path, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2")
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["val/miou"]) for row in rows] == [False, True, False] and all(row["train/loss"] for row in rows)


@pytest.mark.parametrize(
    ("name", "options"),
    [("evaluate", ["split=test"]), ("explain", ["split=test", "target=water"]), ("train", [])],
)
def test_commands_do_not_build_disallowed_classes_of_a_downloaded_record(
    run: Path, tmp_path: Path, name: str, options: list[str]
) -> None:
    folder, marker = tmp_path / "downloaded", tmp_path / "ran"
    shutil.copytree(run, folder)
    text = (folder / "config.yaml").read_text().replace("_target_: satseg.data.splits.Subfolder", "_target_: os.mkdir")
    (folder / "config.yaml").write_text(text.replace("  train: train", f"  path: {marker}", 1))
    if name == "train":
        (folder / "summary.json").unlink()
    key = "resume_from" if name == "train" else "checkpoint"
    assert "names os.mkdir" in error_line(name, f"{key}={folder}", *options, cwd=tmp_path)
    assert not marker.exists()


def test_a_failed_run_keeps_an_existing_folder_and_new_folders_are_named_after_the_backbone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    options = [
        "backbone.encoder_name=test_efficientnet",
        "trainer.precision=bf16-true",
    ]  # detected after the folder is chosen
    error_line("train", *options, "run_dir=mine", cwd=tmp_path)
    assert (tmp_path / "mine/notes.txt").read_text() == "mine"
    assert "_synthetic_unet_test_efficientnet\n" in command("train", *options, cwd=tmp_path).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_evaluating_a_missing_checkpoint_gives_an_error_of_one_line(tmp_path: Path) -> None:
    assert "experiment=demo" in error_line("evaluate", cwd=tmp_path)
    assert "does not exist" in error_line("evaluate", "checkpoint=nothing (1).ckpt", cwd=tmp_path)
