"""The split that folders name, or else one that is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from satseg.data.pairing.folder_names import split_folders
from satseg.data.samples import Sample
from satseg.data.splits.checking import Splits
from satseg.data.splits.draw import Draw
from satseg.data.splits.hashed import Random
from satseg.data.splits.predefined import Subfolder

OTHERWISE = "(dataset/split chooses another)"


class Auto:
    """Splits by the folders train, val and test (or training, valid, …) where the images lie in such; else by a hash.

    Where there is a folder to train on and none to validate on, a share of the training images validates. Where
    there is none to test on beside the others, nothing is tested on.

    Args:
        val: Share of images to validate on, where no folder says which.
        test: Share of images to test on, where no folder says anything.
        seed: Another number draws others.
        fold: Which of the folds of what is not tested on validates, in place of `val`; see `Draw`.
        folds: How many there are.
    """

    def __init__(
        self, val: float = 0.15, test: float = 0.15, seed: int = 0, fold: int | None = None, folds: int = 5
    ) -> None:
        Draw(val, test, seed, fold, folds)  # which checks them
        self.val, self.test = val, test
        self.drawing: dict[str, Any] = {"seed": seed, "fold": fold, "folds": folds}
        self.notes: list[str] = []
        self.is_random = True

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split.

        Raises:
            ConfigError: If two folders are called after one split.
        """
        folders = split_folders(s.file.relative_to(root).parent for s in samples)
        self.is_random, self.notes = not folders, [self.summary(folders)]
        return self.chosen(folders)(samples, root)

    def chosen(self, folders: Mapping[str, str]) -> Random | Subfolder:
        """Return the split by some folders.

        Args:
            folders: Names by split, as of `split_folders`.
        """
        kind, options = self.options(folders)
        return kind(**options)

    def options(self, folders: Mapping[str, str]) -> tuple[type[Random] | type[Subfolder], dict[str, Any]]:
        """Return the class of the split by some folders, and its options."""
        shares = {"val": float(self.val), "test": None if folders else float(self.test)}
        return (Subfolder if folders else Random), shares | dict(folders) | self.drawing

    def summary(self, folders: Mapping[str, str]) -> str:
        """Return a sentence that says how some folders split."""
        if not folders:
            return f"split by a hash of the names, as no folders are called after splits {OTHERWISE}"
        text = f"split by the folders {', '.join(folders.values())}"
        if self.drawing["fold"] is not None:
            text += "; a fold of what is not tested on validates"
        elif "val" not in folders:
            text += f"; none to validate on, so {self.val:g} of the images of {folders['train']} do, by a hash of names"
        return f"{text}{'' if 'test' in folders else '; none to test on'} {OTHERWISE}"
