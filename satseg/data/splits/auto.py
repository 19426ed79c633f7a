"""Split by folder names if there are any, else by a hash."""

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

OVERRIDE = "(dataset/split chooses another)"


class Auto:
    """Splits by the folders train, val and test (or training, valid, …) if images lie in such folders; else by a hash.

    If there is a training folder but no validation folder, a share of the training images validates. If the folders
    include no test folder, there is no test split.

    Args:
        val: Share of images to validate on, if no folder names them.
        test: Share of images to test on, if there are no split folders at all.
        seed: Seed of the draw.
        fold: Index of the fold that validates in place of `val`; see `Draw`.
        folds: Number of folds.
    """

    def __init__(
        self, val: float = 0.15, test: float = 0.15, seed: int = 0, fold: int | None = None, folds: int = 5
    ) -> None:
        Draw(val, test, seed, fold, folds)  # validates the arguments
        self.val, self.test = val, test
        self.drawing: dict[str, Any] = {"seed": seed, "fold": fold, "folds": folds}
        self.notes: list[str] = []
        self.is_random = True

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split.

        Raises:
            ConfigError: If two folders are named after one split.
        """
        folders = split_folders(s.file.relative_to(root).parent for s in samples)
        self.is_random, self.notes = not folders, [self.summary(folders)]
        return self.chosen(folders)(samples, root)

    def chosen(self, folders: Mapping[str, str]) -> Random | Subfolder:
        """Return the split for a set of folders.

        Args:
            folders: Names by split, as from `split_folders`.
        """
        kind, options = self.options(folders)
        return kind(**options)

    def options(self, folders: Mapping[str, str]) -> tuple[type[Random] | type[Subfolder], dict[str, Any]]:
        """Return the class and the options of the split for a set of folders."""
        shares = {"val": float(self.val), "test": None if folders else float(self.test)}
        return (Subfolder if folders else Random), shares | dict(folders) | self.drawing

    def summary(self, folders: Mapping[str, str]) -> str:
        """Return a sentence about the split for a set of folders."""
        if not folders:
            return f"split by a hash of the names, as no folders are named after splits {OVERRIDE}"
        text = f"split by the folders {', '.join(folders.values())}"
        if self.drawing["fold"] is not None:
            text += "; a fold of all but the test images validates"
        elif "val" not in folders:
            text += (
                f"; no validation folder, so a hash of names selects {self.val:g} of the images in {folders['train']}"
            )
        return f"{text}{'' if 'test' in folders else '; no test folder'} {OVERRIDE}"
