"""Splits by a hash of names: of single images, or of groups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from satseg.data.rasters.names import natural_key
from satseg.data.samples import Sample
from satseg.data.splits.checking import Splits, check_splits
from satseg.data.splits.draw import Draw, Wanted
from satseg.errors import ConfigError, DataError


class Random:
    """Splits of single images. Adjacent images leak between splits: use `Group` or `Blocks` for them.

    Args:
        val: Share of images to validate on.
        test: Share of images to test on.
        seed: Seed of the draw.
        fold: Index of the fold that validates in place of `val`; see `Draw`.
        folds: Number of folds.
    """

    is_random = True

    def __init__(
        self, val: float = 0.15, test: float = 0.15, seed: int = 0, fold: int | None = None, folds: int = 5
    ) -> None:
        self.draw = Draw(val, test, seed, fold, folds)

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split."""
        sides = self.draw({s.name: 1 for s in samples})
        splits: Splits = {split: [s for s in samples if s.name in names] for split, names in sides.items()}
        return check_splits(
            splits,
            f"{len(samples)} images cannot be divided by val={self.draw.val} and test={self.draw.test}; change these "
            "shares.",
        )


class Group:
    """Splits that keep all samples of a group together, such as all parts of one scene.

    Args:
        pattern: Regular expression searched in the sample's name; its first group (or the whole match) is the group.
        val: Groups to validate on, or their share.
        test: Groups to test on, or their share.
        seed: Seed of the draw, for shares.
        fold: Index of the fold that validates in place of `val`; see `Draw`. Folds have about equally many images.
        folds: Number of folds.
    """

    def __init__(
        self,
        pattern: str,
        val: Wanted = 0.15,
        test: Wanted = 0.15,
        seed: int = 0,
        fold: int | None = None,
        folds: int = 5,
    ) -> None:
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"dataset.split.pattern={pattern} is not a regular expression: {error}.") from error
        self.draw = Draw(val, test, seed, fold, folds)

    def __call__(self, samples: Sequence[Sample], root: Path) -> Splits:
        """Split.

        Raises:
            DataError: If the pattern is not found in a name, or a named group does not exist.
        """
        sizes = Counter(self.group_of(s) for s in samples)
        sides = self.draw(sizes)
        splits: Splits = {split: [s for s in samples if self.group_of(s) in names] for split, names in sides.items()}
        return check_splits(splits, f"There are {len(sizes)} groups: {', '.join(sorted(sizes, key=natural_key)[:10])}.")

    @property
    def is_random(self) -> bool:
        """Whether groups are drawn rather than named."""
        return self.draw.is_random

    def group_of(self, sample: Sample) -> str:
        """Return the group of a sample.

        Raises:
            DataError: If the pattern is not found in its name.
        """
        match = self.pattern.search(sample.name)
        if match is None:
            raise DataError(f"dataset.split.pattern={self.pattern.pattern} is not found in the name {sample.name}.")
        return match.group(1) if match.groups() else match.group(0)
