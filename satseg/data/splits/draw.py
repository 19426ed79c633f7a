"""Drawing splits from units (images, groups, blocks): by lists, by shares with a hash, or as folds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from satseg.data.rasters.names import natural_key
from satseg.data.splits.checking import Splits
from satseg.errors import ConfigError, DataError

Wanted = Sequence[str | int] | float | None


def hash_order(seed: int, names: Sequence[str]) -> list[str]:
    """Return names in an order that depends only on them and the seed."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())


@dataclass(frozen=True)
class Draw:
    """Division of units into splits.

    Attributes:
        val: Names of the units to validate on, or their share.
        test: Names of the units to test on, or their share.
        seed: Seed of the draw.
        fold: Index of the fold (from 0) that validates in place of `val`; None without folds.
        folds: Number of equal folds into which all but the test units are divided.
    """

    val: Wanted
    test: Wanted
    seed: int
    fold: int | None = None
    folds: int = 5

    def __post_init__(self) -> None:
        for split, share in (("val", self.val), ("test", self.test)):
            if isinstance(share, int | float) and not 0 <= share < 1:
                raise ConfigError(
                    f"dataset.split.{split}={share}: expected a share of at least 0 and below 1, or a list."
                )
        if type(self.folds) is not int or self.folds < 2:
            raise ConfigError(f"dataset.split.folds={self.folds}: expected a whole number of 2 or more.")
        if self.fold is not None and not (type(self.fold) is int and 0 <= self.fold < self.folds):
            raise ConfigError(
                f"dataset.split.fold={self.fold}: expected null or 0 to {self.folds - 1}, for dataset.split.folds="
                f"{self.folds}."
            )

    @property
    def is_random(self) -> bool:
        """Whether units are drawn rather than named."""
        validated = self.fold is not None or isinstance(self.val, int | float)
        return validated and isinstance(self.test, int | float)

    def __call__(self, sizes: Mapping[str, int]) -> dict[str, set[str]]:
        """Divide the units.

        Args:
            sizes: Size of each unit, by which folds are balanced.

        Raises:
            DataError: If a named unit does not exist.
            ConfigError: If there are fewer units than folds.
        """
        names = sorted(sizes, key=natural_key)
        wanted = {"test": self.test} if self.fold is not None else {"test": self.test, "val": self.val}
        sides = {split: _named(split, w, names) for split, w in wanted.items() if not isinstance(w, int | float)}
        taken = set().union(*sides.values())  # lists come first: a share never takes a listed unit
        rest = [n for n in hash_order(self.seed, names) if n not in taken]
        for split, share in wanted.items():
            if isinstance(share, int | float):
                count = max(1, round(share * len(names))) if share else 0
                sides[split], rest = set(rest[:count]), rest[count:]
        if self.fold is not None:
            sides["val"] = set(self._folds(rest, sizes)[self.fold])
        return {"train": set(rest) - sides["val"], "val": sides["val"], "test": sides["test"]}

    def _folds(self, names: list[str], sizes: Mapping[str, int]) -> list[list[str]]:
        """Distribute the units, largest first, each to the smallest fold."""
        if len(names) < self.folds:
            raise ConfigError(
                f"dataset.split.folds={self.folds}: there are only {len(names)} units to divide; take fewer folds."
            )
        folds: list[list[str]] = [[] for _ in range(self.folds)]
        filled = [0] * self.folds
        for name in sorted(names, key=lambda n: -sizes[n]):  # stable: by hash among equals
            least = filled.index(min(filled))
            folds[least].append(name)
            filled[least] += sizes[name]
        return folds


def redraw_folds(splits: Splits, seed: int, fold: int | None, folds: int) -> Splits:
    """Return splits with training and validation samples divided into folds, one of which validates, if `fold` is set.

    Raises:
        ConfigError: As `Draw`.
    """
    draw = Draw(None, None, seed, fold, folds)
    if fold is None:
        return splits
    rest = [*splits["train"], *splits["val"]]
    sides = draw({s.name: 1 for s in rest})
    return splits | {split: [s for s in rest if s.name in sides[split]] for split in ("train", "val")}


def _named(split: str, wanted: Sequence[str | int] | None, names: list[str]) -> set[str]:
    chosen = [wanted] if isinstance(wanted, str) else list(wanted or ())
    missing = [str(w) for w in chosen if str(w) not in names]
    if missing:
        raise DataError(f"dataset.split.{split} names the group {missing[0]}; there are {', '.join(names[:20])}.")
    return {str(w) for w in chosen}
