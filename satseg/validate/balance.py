"""Class balance of each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from satseg.validate.facts import Facts
from satseg.validate.findings import Finding, Severity, percent


@dataclass(frozen=True)
class SplitTotals:
    """Totals of one split.

    Attributes:
        images: Number of images.
        pixels: Number of pixels of all images.
        class_pixels: Counted pixels by class.
        labelled: Labelled pixels by class, including those without data in the image.
        outside: Pixels with a value that is no class.
    """

    images: int
    pixels: int
    class_pixels: np.ndarray
    labelled: np.ndarray
    outside: int

    @property
    def shares(self) -> np.ndarray:
        """Share of each class in the counted pixels."""
        shares: np.ndarray = self.class_pixels / max(self.class_pixels.sum(), 1)
        return shares

    @property
    def uncounted(self) -> float:
        """Share of pixels that are ignored or without data."""
        return 1 - float(self.class_pixels.sum() + self.outside) / max(self.pixels, 1)


def split_totals(splits: Mapping[str, Sequence[Facts]], num_classes: int) -> dict[str, SplitTotals]:
    """Return the totals of each split."""
    return {split: _totals(facts, num_classes) for split, facts in splits.items()}


def _totals(facts: Sequence[Facts], num_classes: int) -> SplitTotals:
    whole = [f for f in facts if f.image and f.mask]
    masks = [f.mask for f in whole if f.mask]
    none = np.zeros(num_classes, np.int64)
    return SplitTotals(
        images=len(facts),
        pixels=sum(f.pixels for f in whole),
        class_pixels=sum((mask.class_pixels for mask in masks), none),
        labelled=sum((mask.labelled for mask in masks), none),
        outside=sum(mask.num_outside for mask in masks),
    )


def check_balance(splits: Mapping[str, SplitTotals], class_names: Sequence[str], least: float) -> list[Finding]:
    """Find classes that are absent or rare in a split.

    Args:
        splits: Totals by split.
        class_names: K names.
        least: Smallest share of a split's counted pixels that a class must have.
    """
    findings = []
    for split, facts in splits.items():
        if not facts.class_pixels.sum():
            continue
        missing = ~facts.class_pixels.astype(bool)
        lacking = [name for name, none in zip(class_names, missing & (facts.labelled == 0), strict=True) if none]
        hidden = [
            (n, c) for n, c, none in zip(class_names, facts.labelled.tolist(), missing, strict=True) if none and c
        ]
        rare = [(n, s) for n, s in zip(class_names, facts.shares, strict=True) if 0 < s < least]
        severity = Severity.ERROR if split == "train" else Severity.WARNING
        if hidden:
            findings.append(_hidden(split, hidden, severity))
        if lacking:
            message = f"the {split} split has no pixel of {', '.join(lacking)}"
            repair = "Split differently (dataset/split=stratified), or add images of them."
            findings.append(Finding("absent_class", severity, message, "Every split has every class.", repair))
        if rare:
            message = f"the {split} split has little of {', '.join(f'{n} ({percent(s)})' for n, s in rare)}"
            expected = f"Every class has at least {percent(least)} of a split (min_class_share)."
            repair = "Split differently (dataset/split=stratified), add images of them, or sample them more often."
            findings.append(Finding("rare_class", Severity.WARNING, message, expected, repair))
    return findings


def _hidden(split: str, classes: Sequence[tuple[str, int]], severity: Severity) -> Finding:
    named = ", ".join(f"{name} ({pixels:,} px)" for name, pixels in classes)
    return Finding(
        "hidden_class",
        severity,
        f"in the {split} split, all pixels labelled {named} lie where the images have no data: nodata, "
        "masked or transparent",
        "Labelled pixels have image data.",
        "Check dataset.nodata, and the nodata values and transparency that the files declare: they may be data "
        "(a band that is flagged as transparency is read as data if dataset.bands lists it).",
    )
