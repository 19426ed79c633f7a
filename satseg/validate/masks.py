"""What masks hold that no class is, and how much of them is ignored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import median

from satseg.data.labels.class_options import class_options, ignore_options, ignored_values
from satseg.data.labels.discovery import LARGEST_VALUE, ClassScheme, declared_nodata
from satseg.data.labels.scheme import BYTE_IN_16_BITS
from satseg.spec import IGNORE_INDEX
from satseg.validate.facts import Facts, MaskFacts
from satseg.validate.findings import Finding, Severity, count, percent
from satseg.validate.mask_tally import THRESHOLD

SEVERAL = 3  # different values from which they are a pattern, not a class that was forgotten
MOSTLY = 0.85  # share of such pixels in thin stripes, or near known values
EXAMPLES = 5
FEWEST_ALIKE = 2  # masks on either side from which two ways of writing a class are no accident
ALIKE = 0.1  # share of all masks
SIMILAR = 4  # times as many pixels as a class has elsewhere, at most, or the other way round: borders have far fewer

EXPECTED = "A mask holds the values of classes, and those of dataset.ignore_values."
REPAIRS = {
    "jpeg_mask": "Export the masks again without loss, as PNG or GeoTIFF: compression has changed their values.",
    "antialiased_mask": (
        "Draw or resample the masks again with nearest neighbour and without anti-aliasing: values between two "
        "classes are no class."
    ),
    "mask_values": "Repair the masks: these are too many values, or such as no class can have.",
}
WORDS = {
    "jpeg_mask": "JPEG-compressed masks: {} outside the classes",
    "antialiased_mask": "anti-aliased masks: {} between the classes, along their borders",
    "mask_values": "masks with {} outside the classes",
}


def check_masks(
    facts: Sequence[Facts],
    scheme: ClassScheme,
    max_ignored: float,
    told: Collection[int] = (),
    given: bool = True,
) -> list[Finding]:
    """Find values that are no class, and too many ignored pixels.

    Args:
        facts: Of all samples.
        scheme: The classes.
        max_ignored: Share of an image's pixels that may be ignored or without data.
        told: Values that the user has named as ignored.
        given: Whether the user has named the classes; else a repair has to.
    """
    masks = [(f, f.mask) for f in facts if f.mask]
    by_kind: dict[str, list[tuple[Facts, MaskFacts]]] = {}
    for f, mask in masks:
        if mask.num_outside:
            by_kind.setdefault(kind_of(mask), []).append((f, mask))
    outside = [_outside(kind, some, scheme, given) for kind, some in by_kind.items()]
    return [
        *outside,
        *_declared_classes(facts, scheme),
        *_ignored_values(masks, scheme),
        *_two_codes(masks, scheme, told),
        *_much_ignored(facts, max_ignored),
    ]


def kind_of(mask: MaskFacts) -> str:
    """Return what the values of a mask that are no class come from, as the name of a check."""
    if mask.lossy or (mask.distinct >= SEVERAL and mask.near >= MOSTLY):
        return "jpeg_mask"
    return "antialiased_mask" if mask.distinct >= SEVERAL and mask.thin >= MOSTLY else "mask_values"


def _outside(kind: str, masks: Sequence[tuple[Facts, MaskFacts]], scheme: ClassScheme, given: bool) -> Finding:
    values: Counter[float] = Counter()
    for _, mask in masks:
        values.update(mask.outside)
    pixels = sum(mask.num_outside for _, mask in masks)
    distinct = max(len(values), *(mask.distinct for _, mask in masks))
    examples = ", ".join(f"{shown(v, scheme)} ({n:,} px)" for v, n in values.most_common(EXAMPLES))
    what = f"{count(pixels, 'pixel')} of {count(distinct, 'value')}"
    message = f"{WORDS[kind].format(what)}: {examples}"
    named = _named_values(values, scheme, given) if kind == "mask_values" and distinct == len(values) else ""
    repair = named or _threshold(kind, [mask for _, mask in masks], scheme, given) or REPAIRS[kind]
    return Finding(kind, Severity.ERROR, message, EXPECTED, repair, tuple(f.mask_file for f, _ in masks))


def _named_values(values: Collection[float], scheme: ClassScheme, given: bool) -> str:
    """Return the options that make classes of values, or leave them out."""
    whole = {int(v) for v in values if float(v).is_integer() and abs(v) <= LARGEST_VALUE}
    if len(whole) < len(values) or (scheme.by_colour and min(whole) < 0):
        return ""
    if wide := _wide(whole, scheme):
        return (
            f"If they are those of 8 bits, written with 16, use {class_options(wide)}; or write the masks with 8 bits."
        )
    ignored = ignore_options(scheme, whole | ignored_values(scheme)) if given else class_options(scheme, ignore=whole)
    return (
        f"To make classes of them, with names of your own, use {class_options(scheme, whole)}; to leave them out, "
        f"{'add' if given else 'use'} {ignored}; or repair the masks."
    )


def _wide(values: Collection[int], scheme: ClassScheme) -> ClassScheme | None:
    """Return the scheme that knows values of 8 bits that were stretched to 16, where these are; None elsewhere."""
    narrow = {v: scheme.values.get(v // BYTE_IN_16_BITS) for v in values if v % BYTE_IN_16_BITS == 0}
    known = {v: index for v, index in narrow.items() if index is not None}
    return replace(scheme, values={**scheme.values, **known}) if len(known) == len(values) else None


def _threshold(kind: str, masks: Sequence[MaskFacts], scheme: ClassScheme, given: bool) -> str:
    """Return the options that read masks as they were meant, where their numbers should be 0 and 255."""
    if any(mask.cut is None or -1 in mask.cut for mask in masks):
        return ""
    blends = {value for mask in masks for value in mask.cut or ()} - scheme.values.keys()
    words = [f"dataset.mask_threshold={THRESHOLD}"]
    if not given:
        words.insert(0, class_options(scheme, ignore=blends))
    elif blends:
        words.append(ignore_options(scheme, blends | ignored_values(scheme)))
    why = REPAIRS[kind].partition(":")[0]
    return f"Use {' '.join(words)}, by which each number means 0 or 255; or {why[0].lower()}{why[1:]}."


def shown(value: float, scheme: ClassScheme) -> str:
    """Return a mask's value as people write it: a number, or a colour."""
    if scheme.by_colour and value < 0:
        return "beyond 8 bits"
    if scheme.by_colour:
        return "({}, {}, {})".format(*(int(value) >> shift & 255 for shift in (16, 8, 0)))
    return f"{value:g}"


def mask_values(facts: Sequence[Facts]) -> Mapping[int, int]:
    """Return the pixels of each value that is known, over all masks."""
    total: Counter[int] = Counter()
    for f in facts:
        total.update(f.mask.known if f.mask else {})
    return total


def _declared_classes(facts: Sequence[Facts], scheme: ClassScheme) -> list[Finding]:
    """Say where a file's header calls nodata what dataset.classes call a class."""
    found: dict[int, list[Facts]] = {}
    for f in facts:
        nodata = declared_nodata(f.mask_info, scheme.by_colour and f.mask_info.count >= 3) if f.mask_info else None
        if f.mask is None or nodata is None or nodata % 1 != 0 or not f.mask.known.get(int(nodata)):
            continue
        if scheme.values[int(nodata)] != IGNORE_INDEX:
            found.setdefault(int(nodata), []).append(f)
    return [
        Finding(
            "nodata_class",
            Severity.NOTE,
            f"{count(len(some), 'mask')} declaring {shown(value, scheme)} as nodata, which dataset.classes call "
            f"{scheme.names[scheme.values[value]]}: these pixels count as that class",
            "",
            "",
            tuple(f.mask_file for f in some),
        )
        for value, some in sorted(found.items())
    ]


def _ignored_values(masks: Sequence[tuple[Facts, MaskFacts]], scheme: ClassScheme) -> list[Finding]:
    found = mask_values([f for f, _ in masks])
    pixels = sum(found.values()) + sum(m.num_outside for _, m in masks)
    ignored = {v: n for v, n in found.items() if scheme.values.get(v) == IGNORE_INDEX}
    if not ignored:
        return []
    each = [
        f"{shown(v, scheme)} {n:,} px ({percent(n / pixels)})" for v, n in sorted(ignored.items(), key=lambda i: -i[1])
    ]
    files = tuple(f.mask_file for f, mask in masks if ignored.keys() & mask.known.keys())
    return [Finding("ignored_values", Severity.NOTE, f"ignored mask values: {', '.join(each)}", "", "", files)]


def _two_codes(masks: Sequence[tuple[Facts, MaskFacts]], scheme: ClassScheme, told: Collection[int]) -> list[Finding]:
    """Find masks of two classes that say 255 for what the others say 1: taken for ignored, much of a class is lost."""
    if len(scheme.names) != 2 or scheme.by_colour:
        return []
    found = []
    for other in sorted(v for v, index in scheme.values.items() if index == IGNORE_INDEX and v not in told):
        instead = [(f, mask) for f, mask in masks if other in mask.known]
        for value, index in scheme.values.items():
            having = [(f, mask) for f, mask in masks if value in mask.known]
            if index == IGNORE_INDEX or not _swapped(instead, other, having, value, len(masks)):
                continue
            name = scheme.names[index]
            found.append(
                Finding(
                    "two_codes",
                    Severity.WARNING,
                    f"{count(len(instead), 'mask')} with {other} and none of the {len(having)} masks with {value} "
                    f"({name}): if {other} means {name}, too, all of it is ignored there",
                    "All masks write a class in the same way; ignored pixels lie beside either class.",
                    f"If it does, use {class_options(replace(scheme, values={**scheme.values, other: index}))}; if "
                    f"not, {class_options(scheme, ignore={other})}.",
                    tuple(f.mask_file for f, _ in instead),
                )
            )
    return found


def _swapped(
    instead: Sequence[tuple[Facts, MaskFacts]],
    other: int,
    having: Sequence[tuple[Facts, MaskFacts]],
    value: int,
    number: int,
) -> bool:
    """Tell whether a value stands in some masks for what another one does in others."""
    if len(having) < FEWEST_ALIKE or len(instead) < max(FEWEST_ALIKE, number * ALIKE):
        return False
    if any(value in mask.known for _, mask in instead):
        return False
    one, two = (_mean_share(some, v) for some, v in ((instead, other), (having, value)))
    return max(one, two) < SIMILAR * min(one, two)


def _mean_share(masks: Sequence[tuple[Facts, MaskFacts]], value: int) -> float:
    return sum(mask.known[value] / sum(mask.known.values()) for _, mask in masks) / len(masks)


def _much_ignored(facts: Sequence[Facts], most: float) -> list[Finding]:
    shares = [(f, uncounted(f)) for f in facts if f.image and f.image.usable and f.mask]
    much = sorted(((f, share) for f, share in shares if share > most), key=lambda pair: -pair[1])
    if not much:
        return []
    usual = median(share for _, share in shares)
    if usual > most:  # as it is meant: labels of a few places in each image
        words = f"sparse labels: of most images {percent(usual)} or more are ignored or without data"
        return [Finding("ignored_pixels", Severity.NOTE, words, "", "", ())]
    return [
        Finding(
            "ignored_pixels",
            Severity.WARNING,
            f"{count(len(much), 'image')} with more than {percent(most)} of the pixels ignored or without data, up to "
            f"{percent(much[0][1])}",
            f"At least {percent(1 - most)} of an image count (max_ignored).",
            f"Leave these images out, label more of them, or use max_ignored={_rounded_up(much[0][1]):g}, where it is "
            "as it should be.",
            tuple(f.mask_file for f, _ in much),
        )
    ]


def _rounded_up(share: float) -> float:
    return min(1.0, math.ceil(100 * share) / 100)


def uncounted(facts: Facts) -> float:
    """Return the share of a sample's pixels that are ignored or without data."""
    if not facts.mask or not facts.pixels:
        return 0.0
    return max(0.0, 1 - float(facts.mask.class_pixels.sum() + facts.mask.num_outside) / facts.pixels)
