"""Recognition of folder layouts: pairing, splits, ambiguous and unknown layouts, and the options printed for them."""

import json
import shlex
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import command, error_line
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from satseg.config import CONFIG_DIR
from satseg.data import FolderDataModule
from satseg.data.labels.class_options import class_options
from satseg.data.labels.discovery import scheme_from_config
from satseg.data.layouts.recognition import recognise_options
from satseg.data.splits import Auto, Random
from satseg.errors import ConfigError, DataError

PNG = b"\x89PNG"  # only names matter until the classes are read


def fill(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(PNG)
    return root


def numbered(pattern: str, number: int = 10) -> list[str]:
    return [pattern.format(i) for i in range(number)]


def open_folder(root: Path, **options: object) -> FolderDataModule:
    return FolderDataModule(root, split=options.pop("split", Auto()), **options)  # type: ignore[arg-type]


def pairs(data: FolderDataModule) -> set[tuple[str, str]]:
    return {tuple(p.relative_to(data.root).as_posix() for p in (s.image, s.mask)) for s in data.samples()}  # type: ignore[misc]


WITHOUT_SPLITS = {
    "images, masks": ("images/{}.tif", "masks/{}.png"),
    "image, mask": ("image/{}.tif", "mask/{}.tif"),
    "imgs, gt": ("imgs/{}.tif", "gt/{}.tif"),
    "img, label": ("img/{}.tif", "label/{}.tif"),
    "Images, Labels": ("Images/{}.jpg", "Labels/{}.png"),
    "images, annotations": ("images/{}.jpg", "annotations/{}.png"),
    "images, annotation": ("images/{}.jpg", "annotation/{}.png"),
    "img_dir, ann_dir": ("img_dir/{}.jpg", "ann_dir/{}.png"),
    "in folders of their own": ("images/north/{}.jpg", "masks/north/{}.png"),
    "a_mask": ("images/{}.tif", "masks/{}_mask.tif"),
    "a-label": ("images/{}.tif", "labels/{}-label.tif"),
    "a_sat, a_mask": ("images/{}_sat.tif", "masks/{}_mask.tif"),
    "side by side": ("{}.tif", "{}_gt.tif"),
    "side by side in a folder": ("images/{}_sat.jpg", "images/{}_mask.png"),
    "a download's outer folder": ("download/images/{}.tif", "download/masks/{}.png"),
    "beside what archives leave": ("images/{}.tif", "masks/{}.png", "__MACOSX/images/{}.tif", ".cache/masks/{}.png"),
}


@pytest.mark.parametrize("files", WITHOUT_SPLITS.values(), ids=WITHOUT_SPLITS)
def test_images_and_masks_without_split_folders_are_recognised(tmp_path: Path, files: tuple[str, ...]) -> None:
    fill(tmp_path, *(name for pattern in files for name in numbered(pattern)))
    data = open_folder(tmp_path)
    root = "download/" if files[0].startswith("download") else ""
    assert pairs(data) == {
        (files[0].format(i).removeprefix(root), files[1].format(i).removeprefix(root)) for i in range(10)
    }
    by_hash = Random()(data.samples(), data.root)
    assert data.divide(data.samples()) == by_hash and len(by_hash["test"]) == 2
    printed = " ".join(data.assumptions)
    folders = {Path(file.removeprefix(root)).parent for file in files[:2]}
    assert all(folder.parts[0] in printed for folder in folders if folder.parts) and "split by a hash" in printed


WITH_SPLITS = {
    "train/images": ("{split}/images/{}.tif", "{split}/masks/{}.tif"),
    "images/train": ("images/{split}/{}.tif", "masks/{split}/{}.tif"),
    "train_images": ("{split}_images/{}.tif", "{split}_masks/{}.tif"),
    "train, train_labels": ("{split}/{}.tif", "{split}_labels/{}.tif"),
    "img_dir/train": ("img_dir/{split}/{}.jpg", "ann_dir/{split}/{}.png"),
    "images_train": ("images_{split}/{}.tif", "gt_{split}/{}.tif"),
    "train, side by side": ("{split}/{}_sat.jpg", "{split}/{}_mask.png"),
    "outer": ("outer/{split}/image/{}.tif", "outer/{split}/label/{}.tif"),
}
NAMES = {"train": ["train", "training", "Train"], "val": ["val", "valid", "Validation"], "test": ["test", "testing"]}


@given(
    st.sampled_from(list(WITH_SPLITS.values())),
    st.fixed_dictionaries({split: st.sampled_from(names) for split, names in NAMES.items()}),
    st.sets(st.sampled_from(["val", "test"])),
    st.sampled_from(["", "_mask", "_gt", " label"]),
)
def test_split_folders_define_the_splits(
    tmp_path_factory: pytest.TempPathFactory,
    patterns: tuple[str, str],
    called: dict[str, str],
    others: set[str],
    suffix: str,
) -> None:
    root = tmp_path_factory.mktemp("layout")
    sides = {"train", *others}
    image, mask = (pattern.replace("{split}", "{{split}}") for pattern in patterns)
    if "_mask." not in mask:
        mask = mask.replace("{}", f"{{}}{suffix}")
    expected: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for side, number in product(sorted(sides), range(8)):
        files = [p.format(f"{side[0]}{number}").format(split=called[side]) for p in (image, mask)]
        fill(root, *files)
        expected[side].add(Path(files[0]).name)
    data = open_folder(root)
    assert len(pairs(data)) == 8 * len(sides)
    splits = {side: {s.image.name for s in samples} for side, samples in data.divide(data.samples()).items()}
    printed = " ".join(data.assumptions)
    if not others:  # a single folder defines no split
        assert len(splits["val"]) == len(splits["test"]) == 1 and "split by a hash" in printed
    elif others == {"test"}:
        assert splits["val"] | splits["train"] == expected["train"] and len(splits["val"]) == 1
        assert splits["test"] == expected["test"] and "no validation folder" in printed
    else:
        assert splits == expected and ("no test folder" in printed) == ("test" not in others)


def recorded_options(root: Path, *options: str) -> dict[str, object]:
    """Return the dataset options that a run records."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        made = compose("train", ["dataset=folder", f"dataset.root={root}", *options]).dataset
    dataset: dict[str, object] = OmegaConf.to_container(made, resolve=True)  # type: ignore[assignment]
    return dataset | recognise_options(dataset)[0]


def test_a_run_records_the_recognised_folders_and_split(tmp_path: Path) -> None:
    files = [f"data/{split}/{kind}/{i}.tif" for split in ("train", "valid") for kind in ("img", "gt") for i in range(5)]
    fill(tmp_path, *files)
    found = recorded_options(tmp_path)
    assert found["root"] == str(tmp_path / "data")
    assert (found["images"], found["masks"]) == ("{train,valid}/img", "{train,valid}/gt")
    assert found["split"] == {
        "_target_": "satseg.data.splits.Subfolder",
        "train": "train",
        "val": "valid",
        "test": None,
        "seed": 0,
        "fold": None,
        "folds": 5,
    }
    fill(tmp_path, *(f"data/test/{kind}/9.tif" for kind in ("img", "gt")))  # added later, so not part of the record
    recorded = open_folder(tmp_path / "data", images=found["images"], masks=found["masks"])
    assert len(recorded.samples()) == 10
    chosen = recorded_options(tmp_path, "dataset/split=random", "dataset.split.val=0.3")["split"]
    assert chosen["_target_"] == "satseg.data.splits.Random" and chosen["val"] == 0.3  # type: ignore[index]
    given_patterns = ["dataset.images='{train,valid}/img'", "dataset.masks='{train,valid}/gt'"]
    kept = recorded_options(tmp_path / "data", *given_patterns)
    assert kept["images"] == "{train,valid}/img" and kept["split"]["_target_"] == "satseg.data.splits.Auto"  # type: ignore[index]


def test_images_of_a_split_without_masks_are_left_out_and_reported(tmp_path: Path) -> None:
    fill(tmp_path, *numbered("train/images/{}.tif"), *numbered("train/masks/{}.tif"), *numbered("test/images/{}.tif"))
    data = open_folder(tmp_path)
    assert {image.partition("/")[0] for image, _ in pairs(data)} == {"train"}
    assert "test/images" in data.assumptions[0] and "left out" in data.assumptions[0]


def test_either_images_or_masks_may_be_given(tmp_path: Path) -> None:
    fill(
        tmp_path,
        *numbered("photos/{}.tif"),
        *numbered("images/{}.tif"),
        *numbered("masks/{}.tif"),
        *numbered("truth/{}.tif"),
    )
    assert {image for image, _ in pairs(open_folder(tmp_path, images="photos"))} == {*numbered("photos/{}.tif")}
    assert {mask for _, mask in pairs(open_folder(tmp_path, masks="truth"))} == {*numbered("truth/{}.tif")}


def options_in(text: str) -> dict[str, str]:
    """Return the dataset options in a message, parsed as a shell does."""
    words = (word for word in shlex.split(text) if word.startswith("dataset."))
    return {key.removeprefix("dataset."): value.rstrip(".,") for key, _, value in (w.partition("=") for w in words)}


AMBIGUOUS = {
    "two kinds of masks": ["images/{}.tif", "masks/{}.tif", "labels/{}.tif"],
    "in splits": [f"{split}/{kind}/{{}}.tif" for split in ("train", "val") for kind in ("img", "gt", "label")],
    "two places": ["images/{}.tif", "masks/{}.tif", "train/images/{}.tif", "train/masks/{}.tif"],
    "two endings": ["images/{}.tif", "masks/{}_mask.tif", "masks/{}_gt.tif"],
    "two regions": ["n/images/{}.tif", "n/masks/{}.tif", "s/images/{}.tif", "s/masks/{}.tif"],
}


@pytest.mark.parametrize("files", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_an_ambiguous_layout_raises_an_error_with_options_for_each_choice(tmp_path: Path, files: list[str]) -> None:
    fill(tmp_path, *(name for pattern in files for name in numbered(pattern)))
    with pytest.raises(ConfigError) as error:
        open_folder(tmp_path)
    line = str(error.value)
    assert "\n" not in line
    found = []
    for choice in line[line.index("dataset.") :].split(" or "):
        options = options_in(choice)
        found.append(pairs(open_folder(Path(options.pop("root", tmp_path)), **options)))
    assert len(found) == 2 and found[0] != found[1] and all(found), line


UNKNOWN = {
    "other names": (["photos/{}.jpg", "truth/{}.png"], 10),
    "other names in splits": (["train/rgb/{}.jpg", "train/ref/{}.png", "val/rgb/{}.jpg", "val/ref/{}.png"], 20),
    "masks inside": (["scenes/{}.jpg", "scenes/truth/{}.png"], 10),
    "masks in a folder beside images": (["{}.jpg", "truth/{}.png"], 10),
    "deeper": (["a/b/images/{}.tif", "a/b/masks/{}.tif"], 10),
}


@pytest.mark.parametrize(("files", "number"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_layout_raises_an_error_with_the_folder_tree_and_options_that_work(
    tmp_path: Path, files: list[str], number: int
) -> None:
    fill(tmp_path, *(name for pattern in files for name in numbered(pattern)))
    for file in tmp_path.rglob("*.jpg"):
        Image.new("RGB", (4, 4)).save(file)
    for file in tmp_path.rglob("*.png"):
        Image.new("L", (4, 4)).save(file)
    with pytest.raises(DataError) as error:
        open_folder(tmp_path)
    assert "\n" not in str(error.value)
    shown = "\n".join(error.value.below)
    assert all(f"{Path(pattern).parent.name}/" in shown for pattern in files if "/" in pattern) and "10 ." in shown
    options = options_in(str(error.value))
    data = open_folder(Path(options.pop("root", tmp_path)), **options)
    assert len(pairs(data)) == number
    assert all(Path(mask).parent.name in ("truth", "ref", "masks") for _, mask in pairs(data))


def test_the_printed_folder_tree_is_short_and_printable(tmp_path: Path) -> None:
    fill(tmp_path, *(f"f{i}/g{j}/h{k}/x.y{k}" for i, j, k in product(range(9), range(6), range(3))))
    (tmp_path / "evil\x1b[31m").mkdir()
    with pytest.raises(DataError) as error:
        open_folder(tmp_path)
    lines = error.value.below
    assert lines[-1] == "  … 6 more folders" and "  f0/" in lines and len(lines) == 6
    assert all(line.isprintable() for line in lines)


def test_unknown_file_name_suffixes_are_suggested_as_options(tmp_path: Path) -> None:
    fill(tmp_path, *numbered("images/s_{}_B2.tif"), *numbered("masks/s_{}_lulc.tif"))
    with pytest.raises(DataError) as error:
        open_folder(tmp_path).samples()
    options = options_in(str(error.value).replace(" pairs 10", " "))
    assert options == {"image_suffix": "_B2", "mask_suffix": "_lulc"}
    assert len(pairs(open_folder(tmp_path, **options))) == 10


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    """Return a folder of tiny images in splits, with the mask values 0, 3, 7 and 255."""
    random = np.random.default_rng(0)
    for split, number in (("train", 6), ("val", 2)):
        for kind in ("images", "masks"):
            (tmp_path / "chips" / split / kind).mkdir(parents=True)
        for i in range(number):
            where = tmp_path / "chips" / split
            Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(where / f"images/{i}.png")
            mask = np.repeat(np.repeat(random.choice(np.array([0, 3, 7, 255], np.uint8), (8, 8)), 8, 0), 8, 1)
            mask[:8, :8], mask[-8:, -8:] = 0, 3
            Image.fromarray(mask).save(where / f"masks/{i}.png")
    return tmp_path / "chips"


SMALL = ["dataset.patch_size=64", "dataset.batch_size=2", "dataset.patches_per_epoch=2", "trainer.max_epochs=1"]
SMALL += ["model=fpn", "backbone=mobilenetv4_conv_small", "backbone.weights=none", "trainer.accelerator=cpu"]


def options_of(line: str) -> list[str]:
    """Return the dataset options of a line, parsed by bash."""
    shell = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line[line.index('dataset.classes=') :]}"], capture_output=True
    )
    return [word for word in shell.stdout.decode().split("\0") if word.startswith("dataset.")]


def test_a_folder_of_splits_trains_with_only_its_root_and_the_printed_class_option_works(
    chips: Path, tmp_path: Path
) -> None:
    first = command("train", "dataset=folder", f"dataset.root={chips}", "run_dir=first", *SMALL, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    lines = first.stderr.splitlines()
    assert any(
        "Recognised: images in train/images and val/images, masks in train/masks and val/masks" in n for n in lines
    )
    assert any("Recognised: split by the folders train, val; no test folder" in n for n in lines)
    (line,) = [n for n in lines if "dataset.classes=" in n]
    assert lines.index(line) < next(i for i, n in enumerate(lines) if n.startswith("Training "))
    (classes,) = options_of(line)
    assert classes == "dataset.classes={class_0: 0, class_3: 3, class_7: 7}"
    record = yaml.safe_load((tmp_path / "first/config.yaml").read_text())["dataset"]
    assert record["images"] == "{train,val}/images" and record["split"]["_target_"].endswith(".Subfolder")
    shutil.copytree(chips / "val", chips / "test")  # added after the run
    scored = command("evaluate", "checkpoint=first", "split=val", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    named = classes.replace("class_7", "bare soil")
    checked = command("validate", "dataset=folder", f"dataset.root={chips}", named, "output=v", cwd=tmp_path)
    assert json.loads((tmp_path / "v/report.json").read_text())["classes"] == ["class_0", "class_3", "bare soil"]
    assert "found in the masks" not in checked.stdout


def test_a_custom_dataset_configuration_may_omit_options(chips: Path, tmp_path: Path) -> None:
    (tmp_path / "my_conf/dataset").mkdir(parents=True)
    (tmp_path / "my_conf/dataset/mine.yaml").write_text(
        f"_target_: satseg.data.folder.FolderDataModule\nroot: {chips}\n"
        "split: {_target_: satseg.data.splits.Auto}\nsampler: null\n"
    )
    done = command("validate", "--config-dir", "my_conf", "dataset=mine", "output=checked", cwd=tmp_path)
    assert "Error" not in done.stderr and (tmp_path / "checked/report.json").exists(), done.stderr
    options = ["dataset=mine", "run_dir=run", *(o for o in SMALL if not o.startswith("dataset."))]
    trained = command("train", "--config-dir", "my_conf", *options, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr


def test_missing_classes_are_completed_by_printed_options_that_work(chips: Path, tmp_path: Path) -> None:
    folder = ["dataset=folder", f"dataset.root={chips}"]
    half = ["dataset.classes={low\\, \\(1\\): 0}"]
    refusal = error_line("train", *folder, *half, "run_dir=run", *SMALL, cwd=tmp_path)
    assert "8 of 8 masks hold values of no class: 3, 7." in refusal
    assert not (tmp_path / "run/model.safetensors").exists()
    found = command("validate", *folder, *half, "output=half", cwd=tmp_path)
    for text in (refusal, next(n for n in found.stdout.splitlines() if "outside the classes" in n)):
        classes, ignored = (word.rstrip(";") for word in options_of(text.replace(";", " ")))
        assert classes == "dataset.classes={low\\, \\(1\\): 0, class_3: 3, class_7: 7}"
        assert ignored == "dataset.ignore_values=[3, 7]"
    done = command("validate", *folder, classes, "output=whole", cwd=tmp_path)
    names = ["low, (1)", "class_3", "class_7"]
    assert json.loads((tmp_path / "whole/report.json").read_text())["classes"] == names, done.stdout
    assert "outside the classes" not in done.stdout


@pytest.mark.parametrize(
    "classes",
    [
        {"water": [0, 0, 255], "land": [[0, 255, 0], [0, 200, 0]]},
        {"a:b": 1, "null": {"value": [2, 3, 4], "color": [1, 2, 3]}, "c {d}": {"value": 5, "color": "#ff0000"}},
        {"x": 1, "y": [7, 9]},
        {"Gebäude": 1, "y'z": 2},
    ],
)
def test_printed_class_options_give_the_same_scheme(classes: dict[str, object]) -> None:
    scheme = scheme_from_config(classes, ignore_values=[[9, 9, 9]] if "water" in classes else [-1, 0])
    text = class_options(scheme)
    if "dataset.classes=" not in text:  # Hydra's grammar cannot express these names
        found = {"classes": yaml.safe_load(text[text.index("{") : text.rindex("}") + 1]), "ignore_values": [-1, 0]}
    else:
        overrides = (OverridesParser.create().parse_override(option) for option in options_of(text))
        found = {each.key_or_group.partition(".")[2]: each.value() for each in overrides}
    assert scheme_from_config(found["classes"], ignore_values=found["ignore_values"]) == scheme
