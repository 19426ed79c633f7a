"""Split that is stratified by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from satseg.data.samples import Sample
from satseg.data.splits.checking import Splits, check_splits
from satseg.data.splits.draw import Draw, hash_order

Counts = Callable[[Sample], np.ndarray]


class Stratified:
    """Splits of single images such that each split has about the same share of every class, even rare ones.

    Images with much of a class are assigned first, each to the split where it brings the pixels of all classes and the
    number of images closest to their targets (after Sechidis et al. 2011, On the stratification of multi-label data).
    Adjacent images leak between splits, as with `Random`.

    Args:
        val: Share of images to validate on.
        test: Share of images to test on.
        seed: Seed of the split.
        fold: Index of the fold that validates in place of `val`; see `Draw`.
        folds: Number of folds.
    """

    is_random = True
    counts_classes = True  # the datamodule passes the counts, which it reads from the masks

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
            samples: All samples.
            root: The dataset's folder.
            counts: Returns the pixels (K,) of each class in a sample.
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
    """Divide images into parts so that each part has its share of every class and of the images.

    Args:
        counts: Pixels of each class in each image (N, K); ties are resolved in this order.
        shares: Share of each part; they sum to 1.

    Returns:
        The part of each image (N,).
    """
    counts = np.hstack([counts, np.ones((len(counts), 1))])
    relative = counts / np.maximum(
        counts.sum(0), 1
    )  # relative to the total of a class, so that rare classes weigh as much
    share = np.maximum(np.asarray(shares, float), 0)
    missing = np.outer(share, relative.sum(0))
    parts = np.zeros(len(counts), int)
    for image in np.argsort(-np.frexp(relative.max(1))[1], kind="stable"):  # in the given order within a power of two
        # Decrease of the squared distance to the target of each part, relative to its size.
        gain = (relative[image] * (2 * missing - relative[image])).sum(1)
        gain = np.where(share > 0, gain / np.maximum(share, 1e-9), -np.inf)
        parts[image] = np.round(gain, 9).argmax()  # sums may differ between machines in the last digit
        missing[parts[image]] -= relative[image]
    return parts
