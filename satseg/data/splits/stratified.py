"""A split whose sides have the same shares of every class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from satseg.data.samples import Sample
from satseg.data.splits.checking import Splits, check_splits
from satseg.data.splits.draw import Draw, hash_order

Counts = Callable[[Sample], np.ndarray]


class Stratified:
    """Splits single images so that each split has about the same share of every class, rare ones too.

    Images with much of a class are placed first, each where it brings the pixels of all classes and the number of
    images nearest to what the split should have (after Sechidis et al. 2011, On the stratification of multi-label
    data).
    Images that touch leak from one split into another, as with `Random`.

    Args:
        val: Share of images to validate on.
        test: Share of images to test on.
        seed: Another number gives another split.
        fold: Which of the folds validates, in place of `val`; see `Draw`.
        folds: How many there are.
    """

    is_random = True
    counts_classes = True  # the datamodule gives the counts, which it has to read from the masks

    def __init__(
        self,
        val: float | None = 0.15,
        test: float | None = 0.15,
        seed: int = 0,
        fold: int | None = None,
        folds: int = 5,
    ) -> None:
        self.draw = Draw(val, test, seed, fold, folds)
        self.val, self.test, self.seed = val or 0.0, test or 0.0, seed

    def __call__(self, samples: Sequence[Sample], root: Path, counts: Counts) -> Splits:
        """Split.

        Args:
            samples: All of them.
            root: The dataset's folder.
            counts: Returns how many pixels (K,) of each class a sample has.
        """
        names = hash_order(self.seed, [s.name for s in samples])
        by_name = {s.name: s for s in samples}
        shares = self._shares()
        part = allocate(np.array([counts(by_name[name]) for name in names], float), list(shares.values()))
        side_of = {name: self._side(list(shares)[p]) for name, p in zip(names, part, strict=True)}
        splits: Splits = {side: [s for s in samples if side_of[s.name] == side] for side in ("train", "val", "test")}
        return check_splits(splits, f"{len(samples)} images are too few for val={self.val} and test={self.test}.")

    def _shares(self) -> Mapping[str, float]:
        if self.draw.fold is None:
            return {"train": 1 - self.val - self.test, "val": self.val, "test": self.test}
        folds = self.draw.folds
        return {"test": self.test} | {str(number): (1 - self.test) / folds for number in range(folds)}

    def _side(self, part: str) -> str:
        if not part.isdecimal():
            return part
        return "val" if int(part) == self.draw.fold else "train"


def allocate(counts: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Divide images into parts so that each has its share of every class and of the images.

    Args:
        counts: Pixels of each class in each image (N, K); what comes first is placed first among equals.
        shares: Of each part; they sum up to 1.

    Returns:
        The part of each image (N,).
    """
    counts = np.hstack([counts, np.ones((len(counts), 1))])
    relative = counts / np.maximum(counts.sum(0), 1)  # of all there is of a class, so that a rare one weighs as much
    share = np.maximum(np.asarray(shares, float), 0)
    missing = np.outer(share, relative.sum(0))
    parts = np.zeros(len(counts), int)
    for image in np.argsort(-np.frexp(relative.max(1))[1], kind="stable"):  # among about as large ones, as given
        # By how much the squared distance to what each part should have falls, relative to the part's size.
        gain = (relative[image] * (2 * missing - relative[image])).sum(1)
        gain = np.where(share > 0, gain / np.maximum(share, 1e-9), -np.inf)
        parts[image] = np.round(gain, 9).argmax()  # sums may differ in their last digit from machine to machine
        missing[parts[image]] -= relative[image]
    return parts
