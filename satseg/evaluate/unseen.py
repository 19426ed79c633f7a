"""Check that models were not trained on the images that they are scored on, using their run records."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from satseg.data import SegmentationDataModule
from satseg.data.fingerprints import digest
from satseg.errors import ConfigError, RunError
from satseg.records.facts import read_splits
from satseg.runs import run_folder
from satseg.runs.renamed import read_record


def check_unseen(checkpoints: Sequence[Path], datamodule: SegmentationDataModule, split: str) -> None:
    """Reject images that a model was trained on; warn of those that selected its best epoch, and of missing records.

    The training split may be scored if it is requested. For a single model's own validation split there is no warning.

    Args:
        checkpoints: The models.
        datamodule: The data to score.
        split: Name of the split to score.

    Raises:
        ConfigError: If a model was trained on any of the images; names the model and an image.
    """
    if split == "train":
        return
    scored = {sample.name: digest(sample) for sample in datamodule.samples_of(split)}
    unknown: list[str] = []
    for path in checkpoints:
        seen = _splits_in(path, scored, datamodule.root)
        if seen is None:
            unknown.append(str(path))
            continue
        if trained := [name for name, origin in seen.items() if origin == "train"]:
            raise ConfigError(
                f"split={split}: {path} was trained on {len(trained)} of these {len(scored)} images (such as "
                f"{trained[0]}), so the scores would be too optimistic: {_alternative(checkpoints, datamodule, split)}."
            )
        if len(checkpoints) > 1 and split != "val" and (chosen := [n for n, origin in seen.items() if origin == "val"]):
            print(
                f"Warning: the best epoch of {path} was selected on {len(chosen)} of these {len(scored)} images "
                f"(such as {chosen[0]}): the scores are slightly too optimistic.",
                file=sys.stderr,
            )
    if unknown and len(checkpoints) > 1:
        print(
            f"Warning: there is no record of the images that {', '.join(unknown)} was trained on: make sure that "
            "these are others.",
            file=sys.stderr,
        )


def _splits_in(checkpoint: Path, scored: Mapping[str, str], root: Path) -> dict[str, str] | None:
    """Return the split of each scored image in a model's run; None if there is no record.

    Images are matched by digest, and in the same folder also by name, as masks may have been corrected since.

    Args:
        checkpoint: The model.
        scored: Digests of images and masks, by name.
        root: Folder of the data to score.
    """
    try:
        folder = run_folder(checkpoint)
        by_digest, by_name = read_splits(folder)
        recorded = read_record(folder / "config.yaml").get("dataset")
    except RunError:
        return None
    own = recorded.get("root") if isinstance(recorded, dict) else None
    is_same = isinstance(own, str) and Path(own).resolve() == Path(root).resolve()
    found = {name: by_digest.get(digest) or (by_name.get(name) if is_same else None) for name, digest in scored.items()}
    return {name: split for name, split in found.items() if split}


def _alternative(checkpoints: Sequence[Path], datamodule: SegmentationDataModule, split: str) -> str:
    """Return a suggestion for what to score instead."""
    if split != "test" and datamodule.splits.get("test") and len(checkpoints) > 1:
        return "score split=test, which folds have in common"
    return (
        "score images that no model was trained on; if another dataset or split is used here than in training, repeat "
        "the dataset= and dataset/split= options of training, or leave all of them out to score the run's own"
    )
