"""Whether models have seen the images that they are scored on, by what their runs record."""

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
    scored = {sample.name: digest(sample) for sample in datamodule.samples_of(split)}
    unknown: list[str] = []
    for path in checkpoints:
        seen = _splits_in(path, scored, datamodule.root)
        if seen is None:
            unknown.append(str(path))
            continue
        if trained := [name for name, where in seen.items() if where == "train"]:
            raise ConfigError(
                f"split={split}: {path} was trained on {len(trained)} of these {len(scored)} images (such as "
                f"{trained[0]}), so their scores would flatter it: {_instead(checkpoints, datamodule, split)}."
            )
        if len(checkpoints) > 1 and split != "val" and (chosen := [n for n, where in seen.items() if where == "val"]):
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


def _splits_in(checkpoint: Path, scored: Mapping[str, str], root: Path) -> dict[str, str] | None:
    """Return in which split of a model's run the images were that are scored; None where no record tells.

    Of the same folder the name tells, too, as masks may have been repaired since.

    Args:
        checkpoint: The model.
        scored: Digests of images and masks, by name.
        root: Folder of the data that is scored.
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


def _instead(checkpoints: Sequence[Path], datamodule: SegmentationDataModule, split: str) -> str:
    """Return what to score instead."""
    if split != "test" and datamodule.splits.get("test") and len(checkpoints) > 1:
        return "score split=test, which folds have in common"
    return "name a dataset, or a split of it, of images that no model was trained on"
