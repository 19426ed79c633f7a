"""Checks for unreadable files, and for images with implausible values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from satseg.errors import RasterReadError, ResourceError
from satseg.validate.bands import describe_exclusion
from satseg.validate.facts import Facts, ImageFacts
from satseg.validate.fills import check_fills
from satseg.validate.findings import Finding, Severity, count, percent

SCALED_RANGE = (0.05, 1.5)  # of the 98th percentile after division by a suitable scale
REPAIR = "Create them again: these come from a division by zero."
MIN_ZERO_SHARE = 0.01  # of pixels that are 0 in every band, to suspect nodata


def check_pixels(
    facts: Sequence[Facts], scale: float | None, offset: float, option_names: Sequence[int | str]
) -> list[Finding]:
    """Find unreadable files, and images without content.

    Args:
        facts: Facts of all samples.
        scale: Divisor that the dataset declares; None if it is estimated from the values.
        offset: Offset that is subtracted before.
        option_names: Number or name in dataset.bands of each band that is read.
    """
    images = [(f, f.image) for f in facts if f.image]
    usable = [(f, i) for f, i in images if i.usable]
    return [
        *_unreadable(facts),
        *_empty(images),
        *_non_finite("infinite", Severity.WARNING, "infinite values", REPAIR, [f for f, i in usable if i.infinite]),
        *_non_finite("nan", Severity.NOTE, "NaN", "", [f for f, i in usable if i.nan]),
        *check_fills(usable),
        *_zeros(usable),
        *_constant_bands([i for _, i in usable if not i.is_constant], option_names),
        *_scale(usable, scale, offset),
    ]


def _empty(images: Sequence[tuple[Facts, ImageFacts]]) -> list[Finding]:
    found = []
    for check, files, words in (
        (
            "all_nodata",
            [f for f, i in images if not i.usable],
            "without a valid pixel: all nodata, masked or not finite",
        ),
        ("constant", [f for f, i in images if i.is_constant], "with the same value in all pixels"),
    ):
        if files:
            message = f"{count(len(files), 'image')} {words}"
            names = tuple(f.image_file for f in files)
            repair = "Leave them out, or create them again."
            found.append(Finding(check, Severity.ERROR, message, "Images have content.", repair, names))
    return found


def _non_finite(check: str, severity: Severity, what: str, repair: str, facts: Sequence[Facts]) -> list[Finding]:
    if not facts:
        return []
    message = f"{count(len(facts), 'image')} with {what}, which count as missing pixels"
    return [Finding(check, severity, message, "Values are finite.", repair, tuple(f.image_file for f in facts))]


def _unreadable(facts: Sequence[Facts]) -> list[Finding]:
    """Group files with the same error."""
    files: dict[tuple[bool, str], list[str]] = {}
    words: dict[str, str] = {}
    for f in facts:
        for file, error in f.faults.items():
            is_broken = isinstance(error, RasterReadError | ResourceError)
            reason = str(error).removeprefix(file).strip(" .;")
            kind = reason.partition(" (")[0]  # what follows concerns a single file
            words.setdefault(kind, reason)
            files.setdefault((is_broken, kind), []).append(file)
    return [
        Finding(
            "unreadable" if is_broken else "unusable",
            Severity.ERROR,
            f"{count(len(some), 'file')}: {words[kind].removeprefix('is ')}",
            "Every file can be read completely.",
            "Copy, download or create them again, or remove them with their partners." if is_broken else "",
            tuple(some),
        )
        for (is_broken, kind), some in files.items()
    ]


def _zeros(images: Sequence[tuple[Facts, ImageFacts]]) -> list[Finding]:
    """Return a note on zeros that may be undeclared nodata and would count as data."""
    undeclared = [(f, i) for f, i in images if f.image_info and all(v is None for v in f.image_info.validity.nodata)]
    found = [(f, i.zero / f.pixels) for f, i in undeclared if not i.is_constant]
    notable = sorted(((f, share) for f, share in found if share >= MIN_ZERO_SHARE), key=lambda x: -x[1])
    if not notable:
        return []
    message = (
        f"{count(len(notable), 'image')} with 0 in every band in up to {percent(notable[0][1])} of the pixels, and no "
        "declared nodata"
    )
    repair = "If these pixels are missing, use dataset.nodata=0: otherwise they count as data."
    return [Finding("zeros", Severity.NOTE, message, "", repair, tuple(f.image_file for f, _ in notable))]


def _constant_bands(images: Sequence[ImageFacts], option_names: Sequence[int | str]) -> list[Finding]:
    if {len(i.minimum) for i in images} != {len(option_names)}:
        return []
    low = np.min([i.minimum for i in images], axis=0)
    constant = (low == np.max([i.maximum for i in images], axis=0)).tolist()
    return [
        Finding(
            "constant_band",
            Severity.WARNING,
            f"band {name} is {value:g} everywhere, in all images",
            "Every band carries information.",
            f"As it carries no information, {describe_exclusion(option_names, constant)}.",
        )
        for name, value, is_constant in zip(option_names, low.tolist(), constant, strict=True)
        if is_constant
    ]


def _scale(images: Sequence[tuple[Facts, ImageFacts]], scale: float | None, offset: float) -> list[Finding]:
    drawn = [np.abs(i.drawn.astype(np.float64) - offset).ravel() for _, i in images if i.drawn.size]
    if scale is None or not drawn:
        return []
    high = float(np.percentile(np.concatenate(drawn), 98))
    unit = high / scale
    if not high or SCALED_RANGE[0] <= unit <= SCALED_RANGE[1]:
        return []
    return [
        Finding(
            "scale",
            Severity.WARNING,
            f"dataset.scale={scale:g} does not fit: the 98th percentile of the values is {high:.4g}, which becomes "
            f"{unit:.3g}",
            f"Scaled values are about 0 to 1 (98th percentile from {SCALED_RANGE[0]} to {SCALED_RANGE[1]}).",
            f"Use dataset.scale=auto, or about dataset.scale={high:.2g}.",
        )
    ]
