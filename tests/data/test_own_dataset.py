"""Datasets of a user's own class: what works, and the lines that report mistakes in it."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import error_line
from dataset_files import write
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException

from satseg.cli.messages import describe
from satseg.config import CONFIG_DIR
from satseg.data import SegmentationDataModule
from satseg.data.building import build_dataset
from satseg.errors import ConfigError, DataError, SatsegError
from satseg.validate.checking import validate

SOURCE = """
from pathlib import Path
from satseg.data import Sample, SegmentationDataModule, scheme_from_config

class Mine(SegmentationDataModule):
    def __init__(self, root, classes, table="pairs.csv", **loading):
        super().__init__(**loading)
        self.root, self.classes, self.table = Path(root), classes, table

    def samples(self):
        names = [line for line in (self.root / self.table).read_text().split()]
        return [Sample(name, self.root / f"{name}.tif", self.root / f"{name}_mask.tif") for name in names]

    def scheme(self):
        return scheme_from_config(self.classes)
"""
NAMES = [f"{region}_{number}" for region in ("north", "south", "west") for number in range(4)]
numbers = itertools.count()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write twelve images with masks of the values 10, 20 and, in one of them, 40; and their table."""
    random = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        mask = random.choice([10, 20], (1, 64, 64)).astype(np.uint8)
        mask[0, :5, :5] = 40 if number == 0 else 10
        write(tmp_path / f"data/{name}.tif", random.integers(1, 200, (3, 64, 64), np.uint8), east=number * 5000)
        write(tmp_path / f"data/{name}_mask.tif", mask, east=number * 5000)
    (tmp_path / "data/pairs.csv").write_text("\n".join(NAMES))
    return tmp_path / "data"


@pytest.fixture
def build(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that builds the dataset with a changed source and changed options, as the commands do."""
    monkeypatch.syspath_prepend(str(root))

    def make(*changes: tuple[str, str], base: bool = True, **options: Any) -> SegmentationDataModule:
        module, source = f"my_datasets_{next(numbers)}", SOURCE
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        (root / f"{module}.py").write_text(source)
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            section = compose("train", overrides=["dataset=base", "dataset.num_workers=0"]).dataset if base else {}
        given = {"root": str(root), "classes": {"low": 10, "high": 20}, "ignore_values": [40]} if base else {}
        return build_dataset({**section, "_target_": f"{module}.Mine", **given, **options})

    return make


def test_an_own_dataset_ignores_values_that_its_options_name(build: Any) -> None:
    data = build()
    data.setup()
    first = next(s for own in data.splits.values() for s in own if s.name == "north_0")
    assert (data.reader.read(first)[1][:5, :5] == 255).all() and data.spec.class_names == ("low", "high")
    assert validate(data, progress=False).is_sound
    unknown = next(f for f in validate(build(ignore_values=None), progress=False).findings if f.severity == 2)
    assert "add dataset.ignore_values='[40]'" in unknown.repair
    with pytest.raises(ConfigError, match=r"dataset\.ignore_values: value 10 is given twice"):
        build(ignore_values=[10]).setup()


def test_a_listed_file_that_does_not_exist_is_an_error_that_names_it(build: Any, root: Path) -> None:
    (root / "west_3_mask.tif").unlink()
    found = next(f for f in validate(build(), progress=False).findings if f.check == "unreadable")
    assert found.line().startswith("error: 1 file: not there; check the path (west_3_mask.tif).")


def test_paths_may_be_texts(build: Any, root: Path) -> None:
    data = build(
        ("= Path(root), classes", "= root, classes"),
        ("self.root / self.table", "Path(self.root) / self.table"),
        (
            'self.root / f"{name}.tif", self.root / f"{name}_mask.tif"',
            'f"{root}/{name}.tif", f"{root}/{name}_mask.tif"',
        ),
        ("names = ", "root = self.root; names = "),
    )
    assert validate(data, progress=False).is_sound
    data.setup()
    assert set(data.digests()) == set(NAMES)


def test_root_may_be_a_property_samples_an_iterator_and_a_base_a_mixin(build: Any, root: Path) -> None:
    data = build(
        ("class Mine(", "class Mixin:\n    pass\n\nclass Mine(Mixin, "),
        ("self.root, self.classes", "self.folder, self.classes"),
        ("    def scheme", "    @property\n    def root(self):\n        return self.folder\n\n    def scheme"),
        ("return [Sample(name", "yield from [Sample(name"),
    )
    data.setup()
    assert data.root == root and sum(map(len, data.splits.values())) == len(NAMES)


INIT = "super().__init__(**loading)"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("Sample(name,", "Sample(name[:-1],", r"two samples the name north_, \S+/north_0\.tif and \S+1\.tif"),
        ("[line for line in", "[] and [line for line in", r"samples\(\) of \S+Mine found no sample"),
        ("[Sample(name,", "[Sample(len(name),", r"samples\(\) of \S+Mine gives the name 7, an int: names are texts"),
        ("return [Sample(", "[Sample(", r"samples\(\) of \S+Mine returned nothing: a list of .*Sample"),
        ("[Sample(name,", "[(name,", r"samples\(\) of \S+Mine returned a tuple in it"),
        ("def samples", "def find", r"my_datasets_\d+\.Mine must define samples\(\); see docs/extend\.md"),
        ("def scheme", "def find", r"my_datasets_\d+\.Mine must define scheme\(\); see docs/extend\.md"),
        ("scheme_from_config(self.classes)", "self.classes", r"returned \{'low': 10.*expected a .*ClassScheme"),
        ("self.root, self.c", "self.folder, self.c", r"Mine must define self\.root"),
        (
            "read_text().split()",
            "read_text()['region']",
            r"samples\(\) of \S+Mine failed: TypeError .* \(\S*my_\w+\.py:11\)",
        ),
        ("(self.classes)", "(self.clases)", r"scheme\(\) of \S+Mine failed: AttributeError .* \(\S*my_.*:15\)"),
        ("Path(root)", "Path(root) / 1", r"the constructor of \S+Mine failed: TypeError .*:8\)"),
        (INIT, "pass", r"Mine does not call the constructor of its base class"),
        (INIT, "super().__init__()", r"does not pass split to its base class: accept \*\*loading"),
        (', table="pairs.csv", **loading', ', table="pairs.csv"', r"Mine does not take split, .*accept \*\*loading"),
        ("self.table = ", "self.manifest = ", r"sets self\.manifest, but manifest is a method of Segm\w+:"),
        ("self.table = ", "self.sizes = ", r"sets self\.sizes, but sizes is a property of Segm\w+:"),
        (INIT, f"{INIT}; self.num_patches = 3", r"sets self\.num_patches, but num_patches is a property"),
        (
            "    def __init__",
            "    manifest = 'a.csv'\n    def __init__",
            r"Mine\.manifest is no method, but manifest\(\)",
        ),
        ("    def samples", "    @property\n    def samples", r"Mine\.samples is no method, but samples\(\)"),
        ("    def scheme", "    def root(self): pass\n    def scheme", r"Mine\.root is a method.*add @property"),
        (
            "    def scheme",
            "    def num_patches(self): pass\n    def scheme",
            r"Mine\.num_patches is a method.*add @property",
        ),
        ("(SegmentationDataModule)", "", r"Mine, which does not extend SegmentationDataModule"),
    ],
)
def test_a_mistake_in_the_class_is_one_line(build: Any, old: str, new: str, line: str) -> None:
    with pytest.raises((SatsegError, InstantiationException)) as error:
        build((old, new)).setup()
    assert re.search(line, describe(error.value) or "")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"tabel": "a.csv"}, r"there is no option dataset\.tabel; did you mean dataset\.table\?"),
        ({"xyz": 1}, r"there is no option dataset\.xyz; \S+Mine takes root, classes, table, patch_size, "),
        ({"base": False, "root": ".", "classes": []}, r"dataset\.split is missing: add `defaults: \[base\]`"),
        (
            {"split": {"_target_": "satseg.data.splits.Random", "vall": 1}},
            r"no option dataset\.split\.vall: Random does",
        ),
        ({"split": {"_target_": "satseg.data.splits.Group"}}, r"dataset\.split\.pattern is missing: Group needs it"),
        ({"split": "random"}, r"dataset\.split=random: .*chosen by dataset/split=random"),
        ({"sampler": "area"}, r"dataset\.sampler=area: .*chosen by dataset/sampler=area"),
        ({"base": False, "root": "."}, r"dataset\.classes is missing: \S+Mine needs it"),
    ],
)
def test_a_mistake_in_the_yaml_file_is_one_line(build: Any, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        build(**options)


def test_an_image_in_two_splits_under_two_names_is_refused(build: Any) -> None:
    data = build(('Sample(name, self.root / f"{name}.tif"', 'Sample(name, self.root / f"north_{name[-1]}.tif"'))
    with pytest.raises(DataError, match=r"north_\d\.tif is in the \w+ split as \w+_\d and in the \w+"):
        data.setup()


def test_commands_report_mistakes_in_one_line(root: Path) -> None:
    (root / "my_package.py").write_text(SOURCE.replace("Sample(name,", "Sample(name[:-1],"))
    (root / "my_conf/dataset").mkdir(parents=True)
    lines = ["defaults: [base]", "_target_: my_package.Mine", f"root: '{root}'", "classes: {low: 10, high: 20}"]
    (root / "my_conf/dataset/mine.yaml").write_text("\n".join(lines))
    own = ["--config-dir", "my_conf", "dataset=mine"]
    for name in ("validate", "train"):
        assert "Mine gives two samples the name north_" in error_line(name, *own, cwd=root)
    missing = error_line("validate", *own, "dataset/split=group", cwd=root)
    assert "dataset.split.pattern= has no default" in missing and "'dataset.split.pattern=\"([a-z]+)_\"'" in missing
