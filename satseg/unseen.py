"""Whether models have seen the images that they are scored on, by what their runs record."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from satseg.data import SegmentationDataModule
from satseg.data.record import digest
from satseg.errors import ConfigError, RunError
from satseg.repeating import read_splits
from satseg.runs import run_folder


def check_unseen(checkpoints: Sequence[Path], datamodule: SegmentationDataModule, split: str) -> None:
    """Refuse to score on images that a model was trained on; warn of those that chose its best epoch, and of no record.

    The training split is scored by who asks for it. Of a single model's own validation split nothing is said.

    Args:
        checkpoints: The models.
        datamodule: The data that is scored.
        split: Of it.

    Raises:
        ConfigError: Names the model and an image.
    """
    if split == "train":
        return
    scored = {digest(sample): sample.name for sample in datamodule.samples_of(split)}
    unknown: list[str] = []
    for path in checkpoints:
        try:
            seen = read_splits(run_folder(path))
        except RunError:
            seen = {}
        if not seen:
            unknown.append(str(path))
        if trained := _of(scored, seen, "train"):
            raise ConfigError(
                f"split={split}: {path} was trained on {len(trained)} of these {len(scored)} images (such as "
                f"{trained[0]}), so their scores would flatter it: {_instead(checkpoints, datamodule, split)}."
            )
        if len(checkpoints) > 1 and split != "val" and (chosen := _of(scored, seen, "val")):
            print(
                f"Warning: the best epoch of {path} was chosen on {len(chosen)} of these {len(scored)} images (such as "
                f"{chosen[0]}): the scores are somewhat too high.",
                file=sys.stderr,
            )
    if unknown and len(checkpoints) > 1:
        print(
            f"Warning: no record tells which images {', '.join(unknown)} was trained on: see that these are others.",
            file=sys.stderr,
        )


def _of(scored: Mapping[str, str], seen: Mapping[str, str], split: str) -> list[str]:
    """Return the names of scored images that were in a split of a model's run."""
    return [name for digest, name in scored.items() if seen.get(digest) == split]


def _instead(checkpoints: Sequence[Path], datamodule: SegmentationDataModule, split: str) -> str:
    """Return what to score instead."""
    if split != "test" and datamodule.splits.get("test") and len(checkpoints) > 1:
        return "score split=test, which folds have in common"
    return "name a dataset, or a split of it, of images that no model was trained on"
