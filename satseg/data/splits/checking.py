"""Checks that every split must pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from satseg.data.samples import Sample
from satseg.errors import DataError

SPLITS = ("train", "val", "test")
Splits = dict[str, list[Sample]]


def check_splits(splits: Splits, hint: str) -> Splits:
    """Return the splits unchanged if training and validation are not empty and no sample is in two splits.

    Raises:
        DataError: If the training or validation split is empty, or a sample is in two splits.
    """
    sides: dict[str, str] = {}
    for split, samples in splits.items():
        for sample in samples:
            other = sides.setdefault(sample.name, split)
            if other != split:
                raise DataError(f"{sample.name} would be in the {other} and in the {split} split. {hint}")
    for name in ("train", "val"):
        if not splits.get(name):
            sizes = ", ".join(f"{len(splits.get(s, []))} {s}" for s in SPLITS)
            raise DataError(f"The {name} split is empty ({sizes}). {hint}")
    return splits


def check_disjoint(splits: Splits) -> None:
    """Check that no image is in two splits under different names.

    Raises:
        DataError: If one is; names the image and its samples.
    """
    seen: dict[object, tuple[str, Sample]] = {}
    for split, samples in splits.items():
        for sample in samples:
            other, first = seen.setdefault((sample.image, sample.window), (split, sample))
            if other != split and first.name != sample.name:
                raise DataError(
                    f"{sample.file} is in the {other} split as {first.name} and in the {split} split as {sample.name}, "
                    f"so the scores would be too optimistic: list each image once, or keep its samples together with "
                    "dataset/split=group."
                )


def left_out(samples: Sequence[Sample], splits: Mapping[str, Sequence[Sample]]) -> list[Sample]:
    """Return the samples whose image is in no split, not even in part."""
    used = {s.image for own in splits.values() for s in own}
    return [s for s in samples if s.image not in used]
