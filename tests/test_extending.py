"""Extensions by the examples in the README and docs/extend.md, run from a folder outside the repository."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from commands import TINY, command, error_line
from omegaconf import OmegaConf

from satseg.config import CONFIG_DIR
from satseg.data.synthetic.scene import make_scene, write_scene
from satseg.serve.served_models import load_models

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Extend it")[2].partition("\n## ")[0]
PAGE = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
TRAINING = ["trainer.enable_progress_bar=false"]
SAMPLING = ["dataset.batch_size=2", "dataset.patches_per_epoch=4", "backbone.weights=none", "trainer.max_epochs=1"]


def write_files(text: str, folder: Path) -> None:
    """Write each example of a text to the path in its first line."""
    (folder / "my_package").mkdir()
    (folder / "my_package/__init__.py").touch()
    for path, content in re.findall(r"```(?:python|yaml)\n# (my_\S+)\n(.*?)```", text, re.DOTALL):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def options(text: str, name: str) -> list[str]:
    """Return the combined options of all lines of a text that run a command."""
    lines = re.findall(rf"^python -m satseg\.{name} (.*)$", text, re.MULTILINE)
    return list(dict.fromkeys(option for line in lines for option in shlex.split(line)))


@pytest.fixture(scope="module")
def readme_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train by the commands in the README, with a custom loss and a plain timm backbone name."""
    folder = tmp_path_factory.mktemp("readme")
    write_files(README, folder)
    tiny = ["dataset.size=128", "dataset.scenes={train: 2, val: 1, test: 1}", "dataset.patch_size=64", *SAMPLING]
    done = command("train", *options(README, "train"), *TRAINING, *tiny, "run_dir=runs/mine", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "trusted_modules" not in done.stderr
    return folder / "runs/mine"


@pytest.mark.slow
def test_every_command_works_on_a_run_with_a_custom_loss(readme_run: Path) -> None:
    folder = readme_run.parents[1]
    for path in (folder / "my_package").rglob("*.py"):  # only training imports it
        path.write_text("raise RuntimeError('imported')\n")
    record = OmegaConf.load(readme_run / "config.yaml")
    assert record.loss.terms.mine == {"_target_": "my_package.losses.MyLoss", "_partial_": True}
    assert record.model.encoder_name == "tu-mobilenetv3_small_050"
    scene = next((folder / "cache").rglob("test/images/*.tif"))
    for name, *more in (
        ("evaluate", "split=val"),
        ("predict", f"input={scene}", "output=map.tif", "engine=torch"),
        ("explain", f"input={scene}", "target=water"),
        ("explain", "split=val", "target=water"),
        ("export", "format=torchscript"),
    ):
        done = command(name, "checkpoint=latest", *more, cwd=folder)
        assert done.returncode == 0, done.stderr
    serving = {"checkpoint": str(readme_run), "device": "cpu", "engine": "torch"}
    (served,) = load_models(OmegaConf.merge(OmegaConf.load(CONFIG_DIR / "serving.yaml"), serving))
    assert served.spec.class_names[0] == "water"
    refusal = error_line("train", f"from_run={readme_run}", cwd=folder)
    assert "my_package.losses.MyLoss" in refusal and "trusted_modules" in refusal


@pytest.fixture(scope="module")
def page_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train by the commands in docs/extend.md, with custom dataset, loss, backbone and decoder."""
    folder = tmp_path_factory.mktemp("page")
    write_files(PAGE, folder)
    rows = [(f"images/{number}.tif", f"masks/{number}.tif") for number in range(8)]
    for number, (image, mask) in enumerate(rows):
        write_scene(
            make_scene((0, 0, number), 128), folder / "data" / image, folder / "data" / mask, "rgb", (number, 0)
        )
    with (folder / "data/pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    own = [*options(PAGE, "train"), "dataset.root=data", "run_dir=runs/mine"]
    done = command("train", *own, *TRAINING, *SAMPLING, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "trusted_modules" in done.stderr  # in the printed next steps
    return folder / "runs/mine"


@pytest.mark.slow
def test_custom_dataset_decoder_and_backbone_work_in_every_command(page_run: Path) -> None:
    folder = page_run.parents[1]
    record = OmegaConf.load(page_run / "config.yaml")
    assert record.dataset.patch_size == 64 and record.dataset.split._target_ == "satseg.data.splits.Random"
    assert record.backbone == {**record.backbone, "encoder_name": "tu-mobilenetv3_small_050", "freeze": False}
    assert record.model._target_ == "my_package.models.MyModel" and record.model.width == 32
    names = json.loads((page_run / "data.json").read_text())["splits"]
    assert sorted(name for own in names.values() for name in own) == [f"images/{number}.tif" for number in range(8)]
    checked = command("validate", *options(PAGE, "validate"), "dataset.root=data", cwd=folder)
    assert "Error" not in checked.stderr, checked.stderr
    assert "my_package.models.MyModel, which is not allowed" in error_line("evaluate", "checkpoint=latest", cwd=folder)
    of_run = options(PAGE.partition("## A decoder")[2], "evaluate")
    for scoring in (of_run, [*options(PAGE, "evaluate"), "dataset.root=data"]):
        scored = command("evaluate", *scoring, cwd=folder)
        assert scored.returncode == 0, scored.stderr
    scene = f"input={folder / 'data/images/0.tif'}"
    mapped = command("predict", scene, "engine=torch", "trusted_modules=[my_package]", cwd=folder)
    assert mapped.returncode == 0, mapped.stderr


@pytest.mark.slow
def test_mistakes_in_a_custom_loss_end_training_before_it_starts_with_one_line(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    losses = tmp_path / "my_package/losses.py"
    losses.write_text(losses.read_text().replace("ignore_index=255, ", ""))
    options = ["--config-dir", "my_conf", "loss=mine", *TINY, "run_dir=run"]
    line = error_line("train", *options, "+loss.weights.pixel=1.0", cwd=tmp_path)
    assert line == "ConfigError: loss.weights.pixel: no term has this name; did you mean pixels?"
    number = next(i for i, text in enumerate(losses.read_text().splitlines(), 1) if "cross_entropy(" in text)
    line = error_line("train", *options, cwd=tmp_path)
    assert line.startswith("ConfigError: loss.terms.borders: my_package.losses.BorderLoss failed in a trial: ")
    assert f"my_package/losses.py:{number}: IndexError: Target 255 is out of bounds" in line
    assert not (tmp_path / "run/metrics.csv").exists()


def test_the_documented_map_loss_is_computed_at_class_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(PAGE, tmp_path)
    scope: dict[str, type] = {}
    exec((tmp_path / "my_package/losses.py").read_text(), scope)  # the documented example
    mask = torch.zeros(1, 4, 6, dtype=torch.long)
    mask[..., 3:] = 1
    logits, valid = torch.randn(1, 2, 4, 6), torch.ones(1, 4, 6, dtype=torch.bool)
    expected = -logits.log_softmax(1).gather(1, mask[:, None])[0, 0, :, 2:4].mean()
    assert torch.isclose(scope["BorderLoss"]()(logits, mask, valid), expected)
