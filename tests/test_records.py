"""Records of runs: allowed classes per slot, valid values, and hostile or corrupt records."""

import copy
import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commands import TINY, command, error_line, run_module
from connection_counter import listener
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from satseg.errors import ConfigError, RecordError, RunError, SatsegError
from satseg.evaluate.files import read_matrices
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import save_model
from satseg.records.config import check_classes, read_bands, read_config, read_dataset
from satseg.records.dataset import recorded_datamodule
from satseg.records.facts import read_environment
from satseg.records.slots import checked_record
from satseg.runs import read_metrics
from satseg.runs.documents import MAX_DEPTH, MAX_JSON_BYTES, MAX_YAML_BYTES, read_json, read_yaml
from satseg.spec import BandStatistics, DatasetSpec, InputSpec
from satseg.sweep.sweep import Job

CONF = Path(__file__).resolve().parents[1] / "conf"
DASHBOARD = "satseg.train.callbacks.wandb.Dashboard"
RECORD: dict[str, Any] = {
    "seed": 0,
    "monitor": "val/miou",
    "ema": False,
    "channels_last": False,
    "runs_dir": "runs",
    "trusted_modules": [],
    "run_dir": None,
    "resume_from": None,
    "from_run": None,
    "init_from": None,
    "dataset": {
        "_target_": "satseg.data.folder.FolderDataModule",
        "root": "data",
        "images": "images/*",
        "classes": {"low": 0, "high": {"value": 1, "color": [1, 2, 3]}},
        "vectors": {"attribute": None},
        "bands": [1, 2, 3],
        "scale": "auto",
        "patch_size": 64,
        "batch_size": 2,
        "num_workers": "auto",
        "split": {"_target_": "satseg.data.splits.Random", "val": 0.5, "seed": 0},
        "sampler": {"_target_": "satseg.data.sampling.Area"},
    },
    "augmentation": {"_target_": "satseg.data.augmentation.Augmentation", "flips": True, "zoom": [0.5, 2.0]},
    "model": {"_target_": MODELS["unet"], "encoder_name": "tu-resnet18", "encoder_weights": "none"},
    "backbone": {"encoder_name": "tu-resnet18", "weights": "none", "adapt": None, "freeze": False},
    "loss": {
        "_target_": "satseg.losses.WeightedSum",
        "class_weights": "none",
        "terms": {"mine": {"_target_": "torch.nn.CrossEntropyLoss", "_partial_": True}},
    },
    "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.0, "backbone_lr_factor": 1.0},
    "scheduler": {"name": "cosine", "warmup": 0.05},
    "trainer": {
        "_target_": "pytorch_lightning.Trainer",
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "max_time": None,
        "strategy": {"_target_": "satseg.train.sharding.ShardedStrategy"},
    },
    "callbacks": {"mine": {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "val/miou"}},
    "logger": {},
}
# For each slot, the configuration files that name its classes, and a pattern that finds them.
SLOTS = {
    "dataset": ("dataset/*.yaml", r"^_target_: (\S+)"),
    "dataset.split": ("dataset/split/*.yaml", r"^_target_: (\S+)"),
    "dataset.sampler": ("dataset/sampler/*.yaml", r"^_target_: (\S+)"),
    "augmentation": ("augmentation/*.yaml", r"^_target_: (\S+)"),
    "model": ("model/*.yaml", r"^_target_: (\S+)"),
    "loss": ("loss/*.yaml", r"^_target_: (\S+)"),
    "loss.terms.mine": ("loss/*.yaml", r"\{_target_: ([\w.]+)"),
    "trainer": ("trainer/*.yaml", r"^_target_: (\S+)"),
    "trainer.strategy": ("trainer/*.yaml", r"^ +_target_: (\S+)"),
    "callbacks.mine": ("callbacks/*.yaml", r"^ +_target_: (\S+)"),
}


def named_classes(files: str, pattern: str) -> set[str]:
    return {n for path in CONF.glob(files) for n in re.findall(pattern, path.read_text(), re.MULTILINE)}


ALL_CLASSES = sorted(named_classes("**/*.yaml", r"_target_: ([\w.]+)"))


def record_with(place: str, value: Any) -> dict[str, Any]:
    record = copy.deepcopy(RECORD)
    *parents, name = place.split(".")
    node = record
    for parent in parents:
        node = node[parent]
    node[name] = value
    return record


def get_at(record: Any, place: str) -> Any:
    for key in place.split("."):
        record = record[key]
    return record


def leaves(record: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in record.items():
        if key.startswith("_") or (not prefix and key in ("runs_dir", "run_dir", "trusted_modules", "logger")):
            continue
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        elif key != "resume_from":
            yield prefix + key


def read(record: dict[str, Any], folder: Path, trusted: list[str] | None = None) -> dict[str, Any]:
    return checked_record(copy.deepcopy(record), folder / "config.yaml", trusted or [])


@pytest.mark.parametrize("slot", SLOTS)
def test_a_slot_accepts_only_its_own_classes(slot: str, tmp_path: Path) -> None:
    own_classes = named_classes(*SLOTS[slot])
    assert len(ALL_CLASSES) > 30 and DASHBOARD in ALL_CLASSES and own_classes and own_classes < set(ALL_CLASSES)
    accepted = set()
    for name in ALL_CLASSES:
        try:
            found = read(record_with(slot, get_at(RECORD, slot) | {"_target_": name}), tmp_path)
        except ConfigError as error:
            assert f"{slot} names {name}, which is not allowed there" in str(error)
        else:
            accepted.add(get_at(found, slot)["_target_"])
    assert accepted == own_classes


@pytest.mark.parametrize("place", leaves(RECORD))
def test_classes_in_place_of_values_raise_an_error(place: str, tmp_path: Path) -> None:
    for name in (DASHBOARD, "satseg.data.sampling.Area", MODELS["unet"]):
        for value in ({"_target_": name}, [{"_target_": name}], {"deep": [{"_target_": name}]}):
            with pytest.raises(ConfigError, match=re.escape(place.split(".")[0])):
                read(record_with(place, value), tmp_path)


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("extra", [{"_args_": [1]}, {"_recursive_": False}, {"_convert_": "all"}, {"_partial_": False}])
def test_special_keys_of_hydra_are_accepted_only_where_the_configuration_has_them(
    slot: str, extra: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="unlike satseg's configuration"):
        read(record_with(slot, get_at(RECORD, slot) | extra), tmp_path)
    node = {k: v for k, v in get_at(RECORD, slot).items() if k != "_target_"}
    with pytest.raises(ConfigError, match=r"names no class"):
        read(record_with(slot, node | {"name": 1}), tmp_path)


def test_trusted_modules_allow_their_own_classes_in_every_slot_but_nothing_they_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_mine.py").write_text(
        f"from {DASHBOARD.rpartition('.')[0]} import Dashboard\nimport os\n\nclass Mine: ...\n\ndef make(): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for slot in SLOTS:
        own = get_at(RECORD, slot) | {"_target_": "of_mine.Mine", "option": {"_target_": "of_mine.Mine"}}
        with pytest.raises(ConfigError, match="of_mine"):
            read(record_with(slot, own), tmp_path)
        assert get_at(read(record_with(slot, own), tmp_path, ["of_mine"]), slot)["_target_"] == "of_mine.Mine"
        for name in ("of_mine.Dashboard", "of_mine.make", "of_mine.os.system", "of_mine.nothing"):
            with pytest.raises(ConfigError, match=slot):
                read(record_with(slot, own | {"_target_": name}), tmp_path, ["of_mine"])
            with pytest.raises(ConfigError, match=slot):
                read(record_with(slot, own | {"option": {"_target_": name}}), tmp_path, ["of_mine"])
    with pytest.raises(ConfigError, match="not allowed there"):
        read(RECORD | {"trusted_modules": ["of_mine"], "model": {"_target_": "of_mine.Mine"}}, tmp_path)


def test_a_trusted_package_covers_its_submodules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/losses.py").write_text("import os\n\n\nclass Mine: ...\n")
    (tmp_path / "my_package/__init__.py").write_text("from my_package.losses import Mine\nfrom pathlib import Path\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    slot = next(slot for slot in SLOTS if slot.startswith("loss"))
    own = get_at(RECORD, slot) | {"_target_": "my_package.Mine", "_convert_": "all", "_recursive_": False}
    assert get_at(read(record_with(slot, own), tmp_path, ["my_package"]), slot) == own
    with pytest.raises(ConfigError, match=f"{slot} names my_package.Path, which is not a class of that module"):
        read(record_with(slot, own | {"_target_": "my_package.Path"}), tmp_path, ["my_package"])
    inside = own | {"_target_": "my_package.losses.Mine"}
    assert get_at(read(record_with(slot, inside), tmp_path, ["my_package"]), slot) == inside
    with pytest.raises(ConfigError, match=r"my_package\.losses\.Mine, which is not allowed there"):
        read(record_with(slot, inside), tmp_path, ["my_pack"])
    for name in ("my_package.losses.os.system", "my_package.os.system", "my_packages.Mine"):
        with pytest.raises(ConfigError, match=slot):
            read(record_with(slot, own | {"_target_": name}), tmp_path, ["my_package"])


def test_options_that_only_the_user_may_set_are_dropped_from_a_record(tmp_path: Path) -> None:
    evil = {"wandb": {"_target_": DASHBOARD, "settings": {"base_url": "http://127.0.0.1:9"}}}
    record = copy.deepcopy(RECORD) | {
        "logger": evil,
        "runs_dir": "/elsewhere",
        "hydra": {"run": "x"},
        "unknown": "${x}",
    }
    record["run_dir"] = record["resume_from"] = "/elsewhere"
    record["trainer"] |= {"logger": evil, "callbacks": [evil], "plugins": [evil], "profiler": "simple"}
    record["trainer"]["default_root_dir"], record["dataset"]["cache_dir"] = "/elsewhere", "/elsewhere"
    found = read(record, tmp_path)
    kept = {k for k in RECORD if k not in ("logger", "runs_dir", "run_dir", "resume_from", "trusted_modules")}
    assert found.keys() == kept and found["trainer"] == RECORD["trainer"]
    assert found["dataset"] == RECORD["dataset"] | {"cache_dir": None} and "elsewhere" not in str(found)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("dataset.root", "${oc.env:HOME}"),
        ("seed", 2**32),
        ("seed", "0"),
        ("ema", "yes"),
        ("optimizer.lr", float("inf")),
        ("optimizer.lr", "fast"),
        ("dataset.num_workers", 100_000),
        ("dataset.batch_size", 0),
        ("dataset.size", 2**12),  # such a scene would take 8 GB of memory
        ("dataset.scenes", {"train": 100_000}),
        ("dataset.split.seed", float("nan")),
        ("dataset.split", 3),
        ("dataset", [1]),
        ("trainer.devices", 100_000),
        ("trainer.max_epochs", True),
        ("callbacks", "all"),
        ("loss.terms", "dice"),
        ("dataset.images", 5),
        ("dataset.images", ["a", "b"]),
        ("dataset.image_suffix", 5),
        ("dataset.image_suffix", ["a"]),
        ("dataset.image_suffix", True),
        ("dataset.split", RECORD["dataset"]["split"] | {"train": ["a"]}),
        ("dataset.scenes", ["a"]),
        ("dataset.classes", 5),
        ("monitor", 5),
        ("init_from", ["a"]),
        ("backbone.encoder_name", 5),
        ("optimizer.name", ["adamw"]),
        ("augmentation.zoom", 2.0),
        ("dataset", RECORD["dataset"] | {5: 1}),
        ("dataset", RECORD["dataset"] | {None: 1}),
        ("dataset", RECORD["dataset"] | {True: 1}),
        ("dataset.scenes", {True: 1}),
        ("dataset.classes", {None: 1}),
    ],
)
def test_values_of_a_wrong_type_or_range_raise_an_error(place: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(SatsegError, match=re.escape(place)):
        read(record_with(place, value), tmp_path)


INVALID_OPTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown": ("dataset", {"foo": 1}, "dataset.foo is unknown to FolderDataModule"),
    "nearly known": ("dataset", {"image_sufix": ""}, "did you mean image_suffix?"),
    "of a list": ("dataset.split", {"_target_": "satseg.data.splits.List", "val": [1]}, "dataset.split.val is [1]"),
    "a number": ("dataset.split", {"_target_": "satseg.data.splits.List", "test": 5}, "expected a string or null"),
    "null": ("dataset.split", {"_target_": "satseg.data.splits.List", "train": None}, "dataset.split.train is None"),
    "of vectors": ("dataset.vectors", {"attribute": 5}, "dataset.vectors is {'attribute': 5}; expected a mapping"),
    "of a path": ("dataset", {"root": 5}, "dataset.root is 5; expected a string or null"),
    "of a class without any": ("dataset.sampler", {"power": 1.0}, "dataset.sampler.power is unknown to Area"),
    "of a term": (
        "loss.terms.mine",
        {"reduction": ["mean"]},
        "loss.terms.mine.reduction is ['mean']; expected a string",
    ),
    "of a callback": ("callbacks.mine", {"patience": "long"}, "callbacks.mine.patience is long; expected a number"),
}


@pytest.mark.parametrize("name", INVALID_OPTIONS)
def test_invalid_options_of_a_class_raise_an_error_that_names_the_file(name: str, tmp_path: Path) -> None:
    place, options, expected = INVALID_OPTIONS[name]
    path = tmp_path / "config.yaml"
    record = record_with(place, get_at(RECORD, place) | options)
    if "_target_" in options:
        record = record_with(place, options)
    OmegaConf.save(OmegaConf.create(record), path)
    with pytest.raises(ConfigError) as caught:
        config = read_config(tmp_path)
        for group in ("dataset", "loss", "callbacks"):
            check_classes(config[group], group, path)
    assert str(caught.value).startswith(f"{path}: ") and expected in str(caught.value)
    if place.startswith("dataset"):  # as read by evaluate, explain and export
        spec = DatasetSpec((InputSpec(("r", "g", "b"), "uint8", 255.0),), ("a", "b"), ((0,) * 3,) * 2)
        with pytest.raises(ConfigError, match=re.escape(expected)):
            recorded_datamodule(tmp_path, OmegaConf.create({}), spec)


def test_an_option_set_by_the_class_itself_raises_an_error_that_names_the_file(tmp_path: Path) -> None:
    made = {"_target_": "satseg.data.synthetic.datamodule.SyntheticDataModule", "scenes": {"train": 1}, "images": "*"}
    OmegaConf.save(OmegaConf.create(record_with("dataset", made)), tmp_path / "config.yaml")
    spec = DatasetSpec((InputSpec(("r", "g", "b"), "uint8", 255.0),), ("a", "b"), ((0,) * 3,) * 2)
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'config.yaml'}: dataset cannot be built")):
        recorded_datamodule(tmp_path, OmegaConf.create({}), spec)


CHOICES = [
    *(
        f"{path.parent.relative_to(CONF)}={path.stem}"
        for path in sorted(CONF.glob("*/*.yaml"))
        if path.parent.name
        in (
            "augmentation",
            "backbone",
            "callbacks",
            "dataset",
            "experiment",
            "loss",
            "model",
            "optimizer",
            "scheduler",
            "trainer",
        )
        and path != CONF / "dataset" / "base.yaml"  # options for other files, not a dataset
    ),
    *(f"dataset=folder dataset/split={path.stem}" for path in sorted(CONF.glob("dataset/split/*.yaml"))),
    "dataset/sampler=balanced",
    # options that satseg's configuration does not contain, but users may add
    "dataset=folder dataset.bands=[B8,B4] dataset.scale=1e4 dataset.offset=0 dataset.num_workers=2 dataset.nodata=0",
    "dataset=folder dataset.images={r:a/*,g:b/*} dataset.classes=[low,high] +dataset.sampling_seed=1",
    "dataset=folder dataset.mask_values={9:water} dataset.vectors.attribute=class dataset.patches_per_epoch=9",
    "dataset=folder dataset.classes={1:1,no:2} dataset/split=subfolder dataset.split.train=1",
    "dataset=dubai dataset.split.val=[2] dataset.split.test=0.2 dataset.split.fold=1",
    "trainer=cpu trainer.devices=[0,1] trainer.precision=32 trainer.deterministic=warn +trainer.val_check_interval=0.5",
    "trainer=cpu trainer.max_time=00:01:00:00 +trainer.num_sanity_val_steps=0 trainer.gradient_clip_val=1",
    "callbacks=early_stopping +callbacks.early_stopping.min_delta=0.1 +callbacks.early_stopping.strict=false",
    "loss=ce_dice +loss.terms.dice.smooth=1.0 +loss.terms.cross_entropy.label_smoothing=0.1 loss.class_weights=[1,2]",
    "+optimizer.betas=[0.9,0.99] +model.decoder_channels=[32,16,16,8,8] backbone.adapt=[B4,B3,B2]",
]


def test_records_of_all_shipped_configurations_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with initialize_config_dir(str(CONF), version_base=None):
        for choice in CHOICES:
            made = compose(
                "train", [*choice.split(), *(["dataset.split.pattern=x"] if "split=group" in choice else [])]
            )
            path.write_text(OmegaConf.to_yaml(made, resolve=True))
            found = read_config(tmp_path)
            for group in ("dataset", "augmentation", "loss", "trainer", "callbacks"):
                check_classes(found[group], group, path)


YAML_FAULTS = {
    "an alias": "dataset: &a {b: 1}\nmodel: *a\n",
    "an anchor": "dataset: &a {b: 1}\n",
    "a merge key": "dataset: {<<: {b: 1}}\n",
    "a tag": "dataset: !!set {b}\n",
    "a plain tag": "dataset: !!str 1\n",
    "a duplicate key": "seed: 1\nseed: 2\n",
    "deep": "a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "large": "a: 1\n#" + " " * MAX_YAML_BYTES,
    "many": f"a: [{'1,' * 20_001}]",
    "long": f"a: {'1' * 5000}",
    "two": "a: 1\n---\nb: 1\n",
    "a list": "[1]\n",
    "a text": "abc\n",
    "empty": "",
    "none": "~\n",
    "unfinished": "a: [1\n",
    "latin": b"a: \xe4\n",
    "no key": "[1]: 2\n",
}
JSON_FAULTS = {
    "a duplicate key": '{"a": 1, "a": 2}',
    "deep": "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "large": "{}" + " " * MAX_JSON_BYTES,
    "no number": '{"a": NaN}',
    "a list": "[]",
    "unfinished": '{"a": ',
    "latin": b'{"a": "\xe4"}',
    "empty": "",
}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("fault", YAML_FAULTS)
def test_unsupported_yaml_raises_an_error(fault: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=re.escape(str(tmp_path / "config.yaml"))):
        read_config(write(tmp_path / "config.yaml", YAML_FAULTS[fault]).parent)


@pytest.mark.parametrize("fault", JSON_FAULTS)
def test_unsupported_json_raises_an_error(fault: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=re.escape(str(tmp_path / "a.json"))):
        read_json(write(tmp_path / "a.json", JSON_FAULTS[fault]))
    with pytest.raises(RecordError, match="does not exist"):
        read_json(tmp_path)


VALUES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=20)
PLAIN = st.recursive(VALUES, lambda c: st.lists(c, max_size=4) | st.dictionaries(st.text(max_size=9), c, max_size=4))


@given(st.dictionaries(st.text(max_size=9), PLAIN, max_size=5))
def test_yaml_written_by_omegaconf_is_read_unchanged(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_text(OmegaConf.to_yaml(OmegaConf.create({"a": yaml.safe_load(yaml.safe_dump(data))})), encoding="utf-8")
    assert read_yaml(path) == OmegaConf.load(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run folder with an untrained model and all files that commands check before they read the record."""
    folder = tmp_path_factory.mktemp("records") / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/last.ckpt").touch()
    statistics = BandStatistics(*(((1.0, 2.0, 3.0),) * 6))
    spec = DatasetSpec(
        (InputSpec(("r", "g", "b"), "uint8", 255.0, statistics=statistics),), ("a", "b"), ((0,) * 3,) * 2
    )
    small = {"encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    network = build_model({"_target_": MODELS["fpn"], **small}, spec)
    save_model(folder / "model.safetensors", network, training={}, protocol={})
    torch.manual_seed(0)
    from PIL import Image

    Image.new("RGB", (64, 64)).save(folder.parent / "scene.png")
    return folder


READERS = {
    "evaluate": ["evaluate", "checkpoint=run"],
    "explain": ["explain", "checkpoint=run", "split=test", "report=true"],
    "predict": ["predict", "checkpoint=run", "input=scene.png", "output=map.tif", "engine=torch", "preflight=warn"],
    "export": ["export", "checkpoint=run", "format=openvino", "int8=true", "output=model"],
    "resume_from": ["train", "resume_from=run"],
    "from_run": ["train", "from_run=run", "run_dir=again"],
}


@pytest.mark.parametrize("reader", READERS)
def test_no_command_builds_classes_or_connects_to_servers_named_in_a_record(reader: str, run: Path) -> None:
    name, *options = READERS[reader]
    with listener() as server:
        board = {"_target_": DASHBOARD, "save_dir": "sent", "settings": {"base_url": server.url}}
        environment = os.environ | {"WANDB_API_KEY": "0" * 40, "OMP_NUM_THREADS": "1", "WANDB_MODE": "online"}
        environment["SATSEG_CACHE"] = str(run.parent / "cache")
        (run / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(record_with("dataset", board))))
        done = run_module(f"satseg.{name}", *options, cwd=run.parent, environment=environment)
        if name == "predict":  # which reads only the bands
            assert done.returncode == 0, done.stderr
            (run.parent / "map.tif").unlink()
        else:
            assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
            assert f"config.yaml: dataset names {DASHBOARD}" in done.stderr.splitlines()[-1]
        assert server.connections == 0 and not (run.parent / "sent").exists()
    write(run / "config.yaml", YAML_FAULTS["an alias"])
    assert "has an anchor or an alias" in error_line(name, *options, cwd=run.parent)
    assert not (run.parent / "again").exists()


def test_report_skips_runs_with_a_corrupt_record(run: Path, tmp_path: Path) -> None:
    for file in ("config.yaml", "summary.json"):
        write(tmp_path / file, JSON_FAULTS["unfinished"])
    (tmp_path / "evaluation/test").mkdir(parents=True)
    (tmp_path / "evaluation/test/matrices.npz").touch()
    assert "no run can be compared" in error_line("report", f"runs={tmp_path}", cwd=tmp_path)


def test_the_data_section_is_read_although_other_sections_are_invalid(tmp_path: Path) -> None:
    record = record_with("loss", {"_target_": "my_package.losses.Mine"}) | {"optimizer": "${x}"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record))
    assert read_dataset(tmp_path) == RECORD["dataset"] and read_bands(tmp_path) == [1, 2, 3]
    with pytest.raises(ConfigError, match="loss names my_package"):
        read_config(tmp_path)
    for bands in ("${x}", {"_target_": DASHBOARD}, 5):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(record_with("dataset.bands", bands)))
        with pytest.raises(RecordError, match="expected a list"):
            read_bands(tmp_path)


@pytest.mark.parametrize("threads", [0, -1, 10**9, "2", True, 1.5, None, [1]])
def test_an_invalid_number_of_threads_raises_an_error(threads: Any, tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(json.dumps({"threads": threads, "packages": {}}))
    with pytest.raises(RecordError, match="threads"):
        read_environment(tmp_path)


def test_repeating_a_run_with_too_many_threads_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(RECORD)))
    (tmp_path / "run/environment.json").write_text('{"threads": 1000000, "packages": {}}')
    assert "threads=1000000; expected 1 to 1024" in error_line("train", "from_run=run", "run_dir=again", cwd=tmp_path)


def test_a_resumed_run_uses_the_loggers_of_the_command(root_dir: Path, tmp_path: Path) -> None:
    chosen = ["logger=[csv,wandb]", "+logger.wandb.watch_every=2", "trusted_modules=[mine]"]
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/last.ckpt").touch()
    job = Job(("seed=1", *chosen), tmp_path / "run")
    assert job.command == [*chosen, f"resume_from='{tmp_path / 'run'}'"]

    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tools / "srun").chmod(0o755)
    shutil.copytree(tmp_path / "run", tmp_path / "runs/slurm_7")
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    for given_options, expected in ((["seed=1", *chosen], chosen), (["seed=1"], [])):
        script = ["bash", str(root_dir / "scripts/train.sbatch"), *given_options]
        done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[3:] == [*expected, "resume_from=runs/slurm_7"]


@pytest.mark.slow
def test_a_dashboard_is_continued_by_the_command_but_never_started_by_a_record(tmp_path: Path) -> None:
    options = [*TINY, "trainer.max_epochs=1", "scheduler=none", "logger=wandb", "run_dir=run"]
    assert command("train", *options, cwd=tmp_path).returncode == 0
    folder = tmp_path / "run"
    known = (folder / "wandb_id").read_text()
    (folder / "summary.json").unlink()
    again = shutil.copytree(folder, tmp_path / "again", symlinks=True)  # wandb may leave dangling links to logs
    done = command("train", "resume_from=run", "trainer.max_epochs=2", "logger=wandb", cwd=tmp_path)
    assert done.returncode == 0 and "logger=wandb" not in done.stderr, done.stderr
    assert (folder / "wandb_id").read_text() == known
    assert len(list(folder.glob("wandb/offline-run-*"))) == 2
    assert all(path.name.endswith(known.strip()) for path in folder.glob("wandb/offline-run-*"))

    record = yaml.safe_load((again / "config.yaml").read_text())
    (again / "wandb_id").write_text("../../elsewhere")
    with listener() as server:
        record["logger"]["wandb"] |= {"settings": {"base_url": server.url}, "entity": "someone"}
        (again / "config.yaml").write_text(yaml.safe_dump(record))
        environment = os.environ | {"WANDB_API_KEY": "0" * 40, "OMP_NUM_THREADS": "1"}
        environment |= {"SATSEG_CACHE": str(tmp_path / "cache")}
        options = ["resume_from=again", "trainer.max_epochs=2"]
        ended = run_module("satseg.train", *options, cwd=tmp_path, environment=environment)
        assert ended.returncode == 0 and "again logged to wandb; to continue logging, add logger=wandb." in ended.stderr
        assert server.connections == 0
    assert len(list(again.glob("wandb/*run-*"))) == 1
    (again / "summary.json").unlink()
    done = command("train", "resume_from=again", "trainer.max_epochs=3", "logger=wandb", cwd=tmp_path)
    assert done.returncode == 0 and "wandb_id does not hold a Weights & Biases id" in done.stderr, done.stderr
    assert re.fullmatch(r"[0-9a-z]{8}\n", (again / "wandb_id").read_text())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("dataset.nodata", -3.4028234663852886e38),
        ("dataset.nodata", math.nan),
        ("dataset.nodata", 2**64 - 1),
        ("dataset.ignore_values", [2**64 - 1, -1]),
        ("trainer.deterministic", "warn"),
    ],
)
def test_extreme_but_valid_values_in_a_record_are_accepted(place: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    OmegaConf.save(OmegaConf.create(record_with(place, value)), path)
    assert str(get_at(read_config(tmp_path), place)) == str(value)


def test_huge_and_infinite_values_raise_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nodata is 1000000"):
        read(record_with("dataset.nodata", 10**40), tmp_path)
    with pytest.raises(ConfigError, match="size is inf"):
        read(record_with("dataset.split", RECORD["dataset"]["split"] | {"size": math.inf}), tmp_path)


@pytest.mark.parametrize("text", ["epoch,loss\n0,much\n", "epoch,loss\n0\n", "epoch,loss\n0,1,2\n", "epoch\n\0\n"])
def test_invalid_metrics_raise_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss\n0,\n1,0.5\n")
    assert read_metrics(path) == [{"epoch": 0, "loss": None}, {"epoch": 1, "loss": 0.5}]
    path.write_text(text)
    with pytest.raises(RecordError, match="not a table of numbers"):
        read_metrics(path)


def test_a_number_beyond_the_range_of_floats_raises_an_error(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text('{"score": 1e999}')
    with pytest.raises(RecordError, match="1e999 is not a finite number"):
        read_json(path)


@pytest.mark.parametrize(
    "change",
    [
        {"matrices": np.zeros((2, 3, 3), np.int8)},
        {"matrices": np.zeros((2, 3, 4), np.int64)},
        {"matrices": np.zeros((3, 3, 3), np.int64)},
        {"names": np.zeros(2, np.uint8)},
        {"groups": np.array([["a"], ["b"]])},
    ],
)
def test_matrices_of_a_wrong_shape_or_dtype_raise_an_error(change: dict[str, Any], tmp_path: Path) -> None:
    path, names = tmp_path / "matrices.npz", np.array(["a", "b"])
    whole = {"names": names, "groups": names, "matrices": np.zeros((2, 3, 3), np.int64)}
    np.savez_compressed(path, **whole)
    assert read_matrices(path)[0] == ["a", "b"]
    np.savez_compressed(path, **(whole | change))
    with pytest.raises(RunError, match="score the run again"):
        read_matrices(path)


def test_matrices_larger_than_the_limit_are_not_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, names = tmp_path / "matrices.npz", np.array(["a", "b"])
    np.savez_compressed(path, names=names, groups=names, matrices=np.zeros((2, 99, 99), np.int64))
    read_matrices(path)
    monkeypatch.setattr("satseg.evaluate.files.MAX_BYTES", 100_000)
    with pytest.raises(RunError, match="more than 0 MB"):
        read_matrices(path)


def test_an_invalid_record_raises_an_error_before_a_folder_is_created(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    OmegaConf.save(OmegaConf.create(RECORD), earlier / "config.yaml")
    (earlier / "environment.json").write_text('{"threads": 0, "packages": {}}')
    assert "threads=0; expected 1 to" in error_line("train", f"from_run={earlier}", "run_dir=again", cwd=tmp_path)
    assert not (tmp_path / "again").exists()
