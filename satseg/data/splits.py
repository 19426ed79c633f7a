"""Which samples train, validate and test. A split depends on names and a seed, never on order or machine."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from satseg.data.pairing import Sample, natural
from satseg.errors import ConfigError, DataError

SPLITS = ("train", "val", "test")
Splits = dict[str, list[Sample]]


def checked(splits: Splits, hint: str) -> Splits:
    """Return the splits if there is something to train and to validate on, and nothing is in two of them.

    Raises:
        DataError: If the training or validation split is empty, or a sample is in two splits.
    """
    sides: dict[str, str] = {}
    for split, samples in splits.items():
        for sample in samples:
            other = sides.setdefault(sample.name, split)
            if other != split:
                raise DataError(f"{sample.name} would be in the {other} and in the {split} split. {hint}")
    for name in ("train", "val"):
        if not splits.get(name):
            sizes = ", ".join(f"{len(splits.get(s, []))} {s}" for s in SPLITS)
            raise DataError(f"The {name} split is empty ({sizes}). {hint}")
    return splits


class Subfolder:
    """Splits by a folder of that name anywhere in an image's path.

    Args:
        train: Folder name of the training images, and so on.
    """

    def __init__(self, train: str = "train", val: str = "val", test: str = "test") -> None:
        self.folders = {"train": str(train), "val": str(val), "test": str(test)}  # a folder may be called 1

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split; images in none of the folders are left out."""
        splits: Splits = {
            split: [s for s in samples if folder in s.image.relative_to(root).parent.parts]
            for split, folder in self.folders.items()
        }
        names = ", ".join(self.folders.values())
        return checked(splits, f"dataset/split=subfolder looks for the folders {names} below {root}.")


class Lists:
    """Splits by text or CSV files of sample names, a line each; the files lie below the dataset's root.

    A line is the name of a sample, with or without a suffix, the path of its image, or the file name of its image or
    mask; in a CSV file one of its columns is. Blank lines and those that start with `#` are left out.

    Args:
        train: File with the names of the training samples, and so on; no test split where it is None.
        prefix: Beginning of names that the files leave out.
        missing: What to do with lines of which there is no sample.
    """

    def __init__(
        self,
        train: str = "train.txt",
        val: str = "val.txt",
        test: str | None = "test.txt",
        prefix: str = "",
        missing: Literal["refuse", "leave_out"] = "refuse",
    ) -> None:
        self.files = {"train": train, "val": val, "test": test}
        if missing not in ("refuse", "leave_out"):
            raise ConfigError(f"dataset.split.missing={missing}: expected refuse or leave_out.")
        self.prefix, self.missing = prefix, missing

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split; samples in none of the lists are left out.

        Raises:
            DataError: If a list is missing, names a sample that is not there, or one that is in another list.
        """
        known = _by_any_name(samples, root)
        splits: Splits = {split: [] for split in SPLITS}
        for split, file in self.files.items():
            for line in _lines(root / file) if file else []:
                columns = line.split(",") if str(file).endswith(".csv") else [line]
                sample = self._find(columns, known)
                if sample is not None:
                    splits[split].append(sample)
                elif self.missing == "refuse":
                    example = samples[0].name if samples else "none"
                    raise DataError(f"{root / str(file)} names {line}, but no sample is so called; one is {example}.")
            splits[split] = list(dict.fromkeys(splits[split]))
        return checked(splits, "A name belongs into one of the list files of dataset.split.")

    def _find(self, columns: Sequence[str], known: Mapping[str, Sample]) -> Sample | None:
        whole = [self.prefix + column.strip() for column in columns]
        names = [name for column in whole for name in (column, column.rpartition(".")[0])]
        return next((known[name] for name in names if name in known), None)


def _by_any_name(samples: Sequence[Sample], root: Path) -> dict[str, Sample]:
    """Return samples by name and by path; and by the names of their files, where only one has such a file."""
    files: dict[str, set[Sample]] = {}
    for sample in samples:
        for path in (sample.image, sample.mask):
            files.setdefault(unicodedata.normalize("NFC", path.stem), set()).add(sample)
    by_file = {name: next(iter(found)) for name, found in files.items() if len(found) == 1}
    return by_file | {s.image.relative_to(root).as_posix(): s for s in samples} | {s.name: s for s in samples}


def _lines(path: Path) -> list[str]:
    """Return a text file's lines, without blank ones and comments."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"{path} cannot be read ({reason}); dataset.split names the list files.") from error
    names = [unicodedata.normalize("NFC", line.strip().replace("\\", "/")) for line in lines]
    return [name for name in names if name and not name.startswith("#")]


class Groups:
    """Keeps all samples of one group on one side, such as all parts of one scene.

    Args:
        pattern: Regular expression searched in the sample's name; its first group (or all of it) is the group.
        val: Groups to validate on, or the share of groups.
        test: Groups to test on, or the share of groups.
        seed: Chooses the groups where shares are given.
    """

    def __init__(
        self,
        pattern: str,
        val: Sequence[str | int] | float = 0.15,
        test: Sequence[str | int] | float | None = 0.15,
        seed: int = 0,
    ) -> None:
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"dataset.split.pattern={pattern} is no regular expression: {error}.") from error
        self.val, self.test, self.seed = val, test, seed

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split.

        Raises:
            DataError: If the pattern is not found in a name, or a group that is named is not there.
        """
        groups: dict[str, list[Sample]] = {}
        for sample in samples:
            groups.setdefault(self.group_of(sample), []).append(sample)
        sides = _choose(sorted(groups, key=natural), self.val, self.test, self.seed)
        splits: Splits = {split: [s for s in samples if self.group_of(s) in names] for split, names in sides.items()}
        return checked(splits, f"There are {len(groups)} groups: {', '.join(sorted(groups, key=natural)[:10])}.")

    @property
    def is_random(self) -> bool:
        """Whether groups are drawn, not named."""
        return isinstance(self.val, int | float) and isinstance(self.test, int | float)

    def group_of(self, sample: Sample) -> str:
        """Return the group of a sample.

        Raises:
            DataError: If the pattern is not found in its name.
        """
        match = self.pattern.search(sample.name)
        if match is None:
            raise DataError(f"dataset.split.pattern={self.pattern.pattern} is not found in the name {sample.name}.")
        return match.group(1) if match.groups() else match.group(0)


class Fractions:
    """Splits single images by a hash of their names.

    Args:
        val: Share of images to validate on.
        test: Share of images to test on.
        seed: Another number gives another split.
    """

    def __init__(self, val: float = 0.15, test: float = 0.15, seed: int = 0) -> None:
        self.val, self.test, self.seed = val, test, seed

    is_random = True

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split."""
        sides = _choose(sorted(s.name for s in samples), self.val, self.test, self.seed)
        splits: Splits = {split: [s for s in samples if s.name in names] for split, names in sides.items()}
        return checked(
            splits,
            f"{len(samples)} images cannot be divided by val={self.val} and test={self.test}; change these shares.",
        )


def _choose(
    names: list[str], val: Sequence[str | int] | float | None, test: Sequence[str | int] | float | None, seed: int
) -> dict[str, set[str]]:
    """Divide names into train, val and test, by lists or by shares; a share above 0 takes at least one.

    Lists are served first, so that a share never takes what a list names.
    """
    wanted = {"test": test, "val": val}
    sides = {split: _named(split, w, names) for split, w in wanted.items() if not isinstance(w, int | float)}
    rest = sorted(names, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
    rest = [n for n in rest if not any(n in side for side in sides.values())]
    for split, share in wanted.items():
        if isinstance(share, int | float):
            if not 0 <= share < 1:
                raise ConfigError(f"dataset.split.{split}={share}: expected a share from 0 to below 1, or a list.")
            count = max(1, round(share * len(names))) if share else 0
            sides[split] = set(rest[:count])
            rest = rest[count:]
    return {"train": set(rest), "val": sides["val"], "test": sides["test"]}


def _named(split: str, wanted: Sequence[str | int] | None, names: list[str]) -> set[str]:
    chosen = [wanted] if isinstance(wanted, str) else list(wanted or ())
    missing = [str(w) for w in chosen if str(w) not in names]
    if missing:
        raise DataError(f"dataset.split.{split} names the group {missing[0]}; there are {', '.join(names[:20])}.")
    return {str(w) for w in chosen}
