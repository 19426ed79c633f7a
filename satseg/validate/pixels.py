"""Files that cannot be read, and images whose numbers cannot be right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from satseg.errors import RasterReadError, ResourceError
from satseg.validate.bands import leave_out
from satseg.validate.facts import Facts, ImageFacts
from satseg.validate.fills import check_fills
from satseg.validate.findings import Finding, Severity, count, percent

UNIT = (0.05, 1.5)  # where the 98th percentile lies after division by a scale that fits
REPAIR = "Make them again: a division by zero made these."
NOTABLE = 0.01  # share of pixels that are 0 in every band from which they may be nodata


def check_pixels(
    facts: Sequence[Facts], scale: float | None, offset: float, called: Sequence[int | str]
) -> list[Finding]:
    """Find unreadable files, and images without content.

    Args:
        facts: Of all samples.
        scale: The divisor that the dataset declares; None where it is found from the numbers.
        offset: What it subtracts before.
        called: What dataset.bands calls each band that is read.
    """
    images = [(f, f.image) for f in facts if f.image]
    seen = [(f, i) for f, i in images if i.usable]
    return [
        *_unreadable(facts),
        *_empty(images),
        *_odd("infinite", Severity.WARNING, "infinite numbers", REPAIR, [f for f, i in seen if i.infinite]),
        *_odd("nan", Severity.NOTE, "NaN", "", [f for f, i in seen if i.nan]),
        *check_fills(seen),
        *_zeros(seen),
        *_constant_bands([i for _, i in seen if not i.is_constant], called),
        *_scale(seen, scale, offset),
    ]


def _empty(images: Sequence[tuple[Facts, ImageFacts]]) -> list[Finding]:
    found = []
    for check, files, words in (
        (
            "all_nodata",
            [f for f, i in images if not i.usable],
            "without a usable pixel: all nodata, masked or not finite",
        ),
        ("constant", [f for f, i in images if i.is_constant], "with the same number in all pixels"),
    ):
        if files:
            message = f"{count(len(files), 'image')} {words}"
            names = tuple(f.image_file for f in files)
            repair = "Leave them out, or make them again."
            found.append(Finding(check, Severity.ERROR, message, "An image shows something.", repair, names))
    return found


def _odd(check: str, severity: Severity, what: str, repair: str, facts: Sequence[Facts]) -> list[Finding]:
    if not facts:
        return []
    message = f"{count(len(facts), 'image')} with {what}, which count as missing pixels"
    return [Finding(check, severity, message, "Numbers are finite.", repair, tuple(f.image_file for f in facts))]


def _unreadable(facts: Sequence[Facts]) -> list[Finding]:
    """Gather the files with the same fault."""
    files: dict[tuple[bool, str], list[str]] = {}
    words: dict[str, str] = {}
    for f in facts:
        for file, error in f.faults.items():
            is_broken = isinstance(error, RasterReadError | ResourceError)
            reason = str(error).removeprefix(file).strip(" .;")
            kind = reason.partition(" (")[0]  # what follows tells of one file
            words.setdefault(kind, reason)
            files.setdefault((is_broken, kind), []).append(file)
    return [
        Finding(
            "unreadable" if is_broken else "unusable",
            Severity.ERROR,
            f"{count(len(some), 'file')}: {words[kind]}",
            "Every file can be read to its end.",
            "Copy, download or make them again, or remove them with their partners." if is_broken else "",
            tuple(some),
        )
        for (is_broken, kind), some in files.items()
    ]


def _zeros(images: Sequence[tuple[Facts, ImageFacts]]) -> list[Finding]:
    """Point to what may be nodata that nobody declared, and would count as a class."""
    unsaid = [(f, i) for f, i in images if f.image_info and all(v is None for v in f.image_info.validity.nodata)]
    found = [(f, i.zero / f.pixels) for f, i in unsaid if not i.is_constant]
    notable = sorted(((f, share) for f, share in found if share >= NOTABLE), key=lambda x: -x[1])
    if not notable:
        return []
    message = (
        f"{count(len(notable), 'image')} with 0 in every band in up to {percent(notable[0][1])} of the pixels, and no "
        "declared nodata"
    )
    repair = "If these pixels are missing, use dataset.nodata=0: they would count otherwise."
    return [Finding("zeros", Severity.NOTE, message, "", repair, tuple(f.image_file for f, _ in notable))]


def _constant_bands(images: Sequence[ImageFacts], called: Sequence[int | str]) -> list[Finding]:
    if {len(i.minimum) for i in images} != {len(called)}:
        return []
    low = np.min([i.minimum for i in images], axis=0)
    constant = (low == np.max([i.maximum for i in images], axis=0)).tolist()
    return [
        Finding(
            "constant_band",
            Severity.WARNING,
            f"band {name} is {value:g} everywhere, in all images",
            "Every band tells something.",
            f"As it tells nothing, {leave_out(called, constant)}.",
        )
        for name, value, is_constant in zip(called, low.tolist(), constant, strict=True)
        if is_constant
    ]


def _scale(images: Sequence[tuple[Facts, ImageFacts]], scale: float | None, offset: float) -> list[Finding]:
    drawn = [np.abs(i.drawn.astype(np.float64) - offset).ravel() for _, i in images if i.drawn.size]
    if scale is None or not drawn:
        return []
    high = float(np.percentile(np.concatenate(drawn), 98))
    unit = high / scale
    if not high or UNIT[0] <= unit <= UNIT[1]:
        return []
    return [
        Finding(
            "scale",
            Severity.WARNING,
            f"dataset.scale={scale:g} does not fit: the 98th percentile of the numbers is {high:.4g}, which becomes "
            f"{unit:.3g}",
            f"Numbers become about 0 to 1 (98th percentile from {UNIT[0]} to {UNIT[1]}).",
            f"Use dataset.scale=auto, or about dataset.scale={high:.2g}.",
        )
    ]
