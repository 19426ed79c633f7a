"""Predefined splits: by folder, or by list files."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from satseg.data.samples import Sample
from satseg.data.splits.checking import SPLITS, Splits, check_splits
from satseg.data.splits.draw import Draw, redraw_folds
from satseg.errors import ConfigError, DataError


class Subfolder:
    """Splits by folder names anywhere in an image's path.

    Args:
        train: Folder name of the training images.
        val: Folder name of the validation images; or a share (a float) of the training images.
        test: Folder name of the test images; None if there are none.
        seed: Seed of the draw, for a share and for folds.
        fold: Index of the fold that validates in place of `val`; see `Draw`.
        folds: Number of folds.
    """

    def __init__(
        self,
        train: str | int = "train",
        val: str | int | float = "val",
        test: str | int | None = "test",
        seed: int = 0,
        fold: int | None = None,
        folds: int = 5,
    ) -> None:
        named = {"train": train, "val": None if isinstance(val, float) else val, "test": test}
        self.folders = {
            split: str(name) for split, name in named.items() if name is not None
        }  # a folder may be named 1
        self.draw = Draw(val, 0.0, seed) if isinstance(val, float) else None
        self.folding = partial(redraw_folds, seed=seed, fold=fold, folds=folds)

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split; images in none of the folders are left out."""
        splits: Splits = {split: [] for split in SPLITS}
        for split, folder in self.folders.items():
            splits[split] = [s for s in samples if folder in s.file.relative_to(root).parent.parts]
        if self.draw is not None:
            sides = self.draw({s.name: 1 for s in splits["train"]})
            splits |= {split: [s for s in splits["train"] if s.name in sides[split]] for split in ("train", "val")}
        names = ", ".join(self.folders.values())
        return self.folding(
            check_splits(splits, f"dataset/split=subfolder looks for the folders {names} below {root}.")
        )


class List:
    """Splits by text or CSV files below the dataset's root, with one sample per line.

    A line, or one column of it in a CSV file, is the name of a sample with or without a suffix, the path of its image,
    or the file name of its image or mask. Blank lines and those that start with `#` are skipped.

    Args:
        train: File of the training samples.
        val: File of the validation samples.
        test: File of the test samples; None for no test split.
        prefix: Beginning of sample names that the files omit.
        missing: What to do with lines without a matching sample: `refuse` or `leave_out`.
        seed: As for `Subfolder`.
        fold: As for `Subfolder`.
        folds: As for `Subfolder`.
    """

    def __init__(
        self,
        train: str = "train.txt",
        val: str = "val.txt",
        test: str | None = "test.txt",
        prefix: str = "",
        missing: Literal["refuse", "leave_out"] = "refuse",
        seed: int = 0,
        fold: int | None = None,
        folds: int = 5,
    ) -> None:
        self.files = {"train": train, "val": val, "test": test}
        if missing not in ("refuse", "leave_out"):
            raise ConfigError(f"dataset.split.missing={missing}: expected refuse or leave_out.")
        self.prefix, self.missing = prefix, missing
        self.folding = partial(redraw_folds, seed=seed, fold=fold, folds=folds)

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split; samples in none of the lists are left out.

        Raises:
            DataError: If a list is missing, or names a sample that does not exist or is in another list.
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
                    raise DataError(
                        f"{root / str(file)} names {line}, but there is no such sample; one is named {example}."
                    )
            splits[split] = list(dict.fromkeys(splits[split]))
        return self.folding(check_splits(splits, "A name belongs in only one of the list files of dataset.split."))

    def _find(self, columns: Sequence[str], known: Mapping[str, Sample]) -> Sample | None:
        whole = [self.prefix + column.strip() for column in columns]
        names = [name for column in whole for name in (column, column.rpartition(".")[0])]
        return next((known[name] for name in names if name in known), None)


def _by_any_name(samples: Sequence[Sample], root: Path) -> dict[str, Sample]:
    """Return samples by name, by path, and by file name if that is unique."""
    files: dict[str, set[Sample]] = {}
    for sample in samples:
        for path in (sample.file, sample.mask_file):
            files.setdefault(unicodedata.normalize("NFC", path.stem), set()).add(sample)
    by_file = {name: next(iter(found)) for name, found in files.items() if len(found) == 1}
    return by_file | {s.file.relative_to(root).as_posix(): s for s in samples} | {s.name: s for s in samples}


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file without blank lines and comments."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"{path} cannot be read ({reason}); dataset.split names the list files.") from error
    names = [unicodedata.normalize("NFC", line.strip().replace("\\", "/")) for line in lines]
    return [name for name in names if name and not name.startswith("#")]
