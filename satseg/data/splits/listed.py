"""Splits that come with the data: by folder, or by text files."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from satseg.data.pairing import Sample
from satseg.data.splits.checking import SPLITS, Splits, checked
from satseg.errors import DataError


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
            split: [s for s in samples if folder in s.file.relative_to(root).parent.parts]
            for split, folder in self.folders.items()
        }
        names = ", ".join(self.folders.values())
        return checked(splits, f"dataset/split=subfolder looks for the folders {names} below {root}.")


class List:
    """Splits by text files of sample names, a line each; the files lie below the dataset's root.

    A line is the name of a sample, with or without a suffix, or the path of its image. Blank lines and those
    that start with `#` are left out.

    Args:
        train: File with the names of the training samples, and so on; no test split where it is None.
    """

    def __init__(self, train: str = "train.txt", val: str = "val.txt", test: str | None = "test.txt") -> None:
        self.files = {"train": train, "val": val, "test": test}

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split; samples in none of the lists are left out.

        Raises:
            DataError: If a list is missing, names a sample that is not there, or one that is in another list.
        """
        known = {s.file.relative_to(root).as_posix(): s for s in samples} | {s.name: s for s in samples}
        splits: Splits = {split: [] for split in SPLITS}
        for split, file in self.files.items():
            for line in _lines(root / file) if file else []:
                sample = known.get(line) or known.get(line.rpartition(".")[0])
                if sample is None:
                    example = samples[0].name if samples else "none"
                    raise DataError(f"{root / str(file)} names {line}, but no sample is so called; one is {example}.")
                splits[split].append(sample)
            splits[split] = list(dict.fromkeys(splits[split]))
        return checked(splits, "A name belongs into one of the list files of dataset.split.")


def _lines(path: Path) -> list[str]:
    """Return a text file's lines, without blank ones and comments."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"{path} cannot be read ({reason}); dataset.split names the list files.") from error
    names = [unicodedata.normalize("NFC", line.strip().replace("\\", "/")) for line in lines]
    return [name for name in names if name and not name.startswith("#")]
