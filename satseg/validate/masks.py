"""Checks of masks: values outside the classes, and ignored pixels."""

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

MIN_DISTINCT = 3  # values that suggest an artefact rather than a forgotten class
PATTERN_SHARE = 0.85  # of these pixels in thin stripes, or near known values
MAX_EXAMPLES_PER_KIND = 5
MIN_MASKS = 2  # of either encoding of a class, for it to be no accident
MIN_MASK_SHARE = 0.1  # of all masks
MAX_RATIO = 4  # between the shares of pixels of both encodings: borders have far fewer

EXPECTED = "A mask holds the values of classes, and those of dataset.ignore_values."
REPAIRS = {
    "jpeg_mask": "Export the masks again with lossless compression, as PNG or GeoTIFF: JPEG has changed their values.",
    "antialiased_mask": (
        "Draw or resample the masks again with nearest neighbour and without anti-aliasing: values between two "
        "classes are no class."
    ),
    "mask_values": "Repair the masks: there are too many values, or values that no class can have.",
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
    ignored_by_user: Collection[int] = (),
    given: bool = True,
) -> list[Finding]:
    """Find values that are no class, and too many ignored pixels.

    Args:
        facts: Facts of all samples.
        scheme: The classes.
        max_ignored: Share of an image's pixels that may be ignored or without data.
        ignored_by_user: Values that the user ignores explicitly.
        given: True if the user has named the classes; otherwise a repair must.
    """
    masks = [(f, f.mask) for f in facts if f.mask]
    by_kind: dict[str, list[tuple[Facts, MaskFacts]]] = {}
    for f, mask in masks:
        if mask.num_outside:
            by_kind.setdefault(classify_outside(mask), []).append((f, mask))
    outside = [_outside(kind, some, scheme, given) for kind, some in by_kind.items()]
    return [
        *outside,
        *_declared_classes(facts, scheme),
        *_ignored_values(masks, scheme),
        *_two_codes(masks, scheme, ignored_by_user),
        *_much_ignored(facts, max_ignored),
    ]


def classify_outside(mask: MaskFacts) -> str:
    """Return the origin of a mask's values outside the classes, as the name of a check."""
    if mask.lossy or (mask.distinct >= MIN_DISTINCT and mask.near >= PATTERN_SHARE):
        return "jpeg_mask"
    return "antialiased_mask" if mask.distinct >= MIN_DISTINCT and mask.thin >= PATTERN_SHARE else "mask_values"


def _outside(kind: str, masks: Sequence[tuple[Facts, MaskFacts]], scheme: ClassScheme, given: bool) -> Finding:
    values: Counter[float] = Counter()
    for _, mask in masks:
        values.update(mask.outside)
    pixels = sum(mask.num_outside for _, mask in masks)
    distinct = max(len(values), *(mask.distinct for _, mask in masks))
    examples = ", ".join(f"{format_value(v, scheme)} ({n:,} px)" for v, n in values.most_common(MAX_EXAMPLES_PER_KIND))
    what = f"{count(pixels, 'pixel')} of {count(distinct, 'value')}"
    message = f"{WORDS[kind].format(what)}: {examples}"
    named = _named_values(values, scheme, given) if kind == "mask_values" and distinct == len(values) else ""
    repair = named or _threshold(kind, [mask for _, mask in masks], scheme, given) or REPAIRS[kind]
    return Finding(kind, Severity.ERROR, message, EXPECTED, repair, tuple(f.mask_file for f, _ in masks))


def _named_values(values: Collection[float], scheme: ClassScheme, given: bool) -> str:
    """Return the options that declare values as classes, or ignore them."""
    whole = {int(v) for v in values if float(v).is_integer() and abs(v) <= LARGEST_VALUE}
    if len(whole) < len(values) or (scheme.by_colour and min(whole) < 0):
        return ""
    if wide := _stretched_scheme(whole, scheme):
        return (
            f"If they are 8-bit values stretched to 16 bits, use {class_options(wide)}; or write the masks with 8 bits."
        )
    ignored = ignore_options(scheme, whole | ignored_values(scheme)) if given else class_options(scheme, ignore=whole)
    return (
        f"To declare them as classes, with names of your own, use {class_options(scheme, whole)}; to ignore them, "
        f"{'add' if given else 'use'} {ignored}; or repair the masks."
    )


def _stretched_scheme(values: Collection[int], scheme: ClassScheme) -> ClassScheme | None:
    """Return a scheme with 8-bit values that were stretched to 16 bits, if these are such; else None."""
    narrow = {v: scheme.values.get(v // BYTE_IN_16_BITS) for v in values if v % BYTE_IN_16_BITS == 0}
    known = {v: index for v, index in narrow.items() if index is not None}
    return replace(scheme, values={**scheme.values, **known}) if len(known) == len(values) else None


def _threshold(kind: str, masks: Sequence[MaskFacts], scheme: ClassScheme, given: bool) -> str:
    """Return the options that repair masks on reading, if their values should be 0 and 255."""
    if any(mask.thresholded is None or -1 in mask.thresholded for mask in masks):
        return ""
    blends = {value for mask in masks for value in mask.thresholded or ()} - scheme.values.keys()
    words = [f"dataset.mask_threshold={THRESHOLD}"]
    if not given:
        words.insert(0, class_options(scheme, ignore=blends))
    elif blends:
        words.append(ignore_options(scheme, blends | ignored_values(scheme)))
    why = REPAIRS[kind].partition(":")[0]
    return f"Use {' '.join(words)}, which maps each value to 0 or 255; or {why[0].lower()}{why[1:]}."


def format_value(value: float, scheme: ClassScheme) -> str:
    """Return a mask's value as text: a number, or a colour."""
    if scheme.by_colour and value < 0:
        return "beyond 8 bits"
    if scheme.by_colour:
        return "({}, {}, {})".format(*(int(value) >> shift & 255 for shift in (16, 8, 0)))
    return f"{value:g}"


def mask_values(facts: Sequence[Facts]) -> Mapping[int, int]:
    """Return the number of pixels of each known value over all masks."""
    total: Counter[int] = Counter()
    for f in facts:
        total.update(f.mask.known if f.mask else {})
    return total


def _declared_classes(facts: Sequence[Facts], scheme: ClassScheme) -> list[Finding]:
    """Return notes on values that a header declares as nodata and dataset.classes as a class."""
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
            f"{count(len(some), 'mask')} declaring {format_value(value, scheme)} as nodata, which dataset.classes call "
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
        f"{format_value(v, scheme)} {n:,} px ({percent(n / pixels)})"
        for v, n in sorted(ignored.items(), key=lambda i: -i[1])
    ]
    files = tuple(f.mask_file for f, mask in masks if ignored.keys() & mask.known.keys())
    return [Finding("ignored_values", Severity.NOTE, f"ignored mask values: {', '.join(each)}", "", "", files)]


def _two_codes(
    masks: Sequence[tuple[Facts, MaskFacts]], scheme: ClassScheme, ignored_by_user: Collection[int]
) -> list[Finding]:
    """Find binary masks that encode as 255 what others encode as 1: if ignored, much of a class is lost."""
    if len(scheme.names) != 2 or scheme.by_colour:
        return []
    found = []
    for other in sorted(v for v, index in scheme.values.items() if index == IGNORE_INDEX and v not in ignored_by_user):
        instead = [(f, mask) for f, mask in masks if other in mask.known]
        for value, index in scheme.values.items():
            having = [(f, mask) for f, mask in masks if value in mask.known]
            if index == IGNORE_INDEX or not _is_swapped(instead, other, having, value, len(masks)):
                continue
            name = scheme.names[index]
            found.append(
                Finding(
                    "two_codes",
                    Severity.WARNING,
                    f"{count(len(instead), 'mask')} with {other} and none of the {len(having)} masks with {value} "
                    f"({name}): if {other} means {name}, too, all of it is ignored there",
                    "All masks encode a class in the same way; ignored pixels lie beside either class.",
                    f"If it does, use {class_options(replace(scheme, values={**scheme.values, other: index}))}; if "
                    f"not, {class_options(scheme, ignore={other})}.",
                    tuple(f.mask_file for f, _ in instead),
                )
            )
    return found


def _is_swapped(
    instead: Sequence[tuple[Facts, MaskFacts]],
    other: int,
    having: Sequence[tuple[Facts, MaskFacts]],
    value: int,
    number: int,
) -> bool:
    """Return whether a value seems to mean in some masks what another one means in others."""
    if len(having) < MIN_MASKS or len(instead) < max(MIN_MASKS, number * MIN_MASK_SHARE):
        return False
    if any(value in mask.known for _, mask in instead):
        return False
    one, two = (_mean_share(some, v) for some, v in ((instead, other), (having, value)))
    return max(one, two) < MAX_RATIO * min(one, two)


def _mean_share(masks: Sequence[tuple[Facts, MaskFacts]], value: int) -> float:
    return sum(mask.known[value] / sum(mask.known.values()) for _, mask in masks) / len(masks)


def _much_ignored(facts: Sequence[Facts], most: float) -> list[Finding]:
    shares = [(f, uncounted(f)) for f in facts if f.image and f.image.usable and f.mask]
    much = sorted(((f, share) for f, share in shares if share > most), key=lambda pair: -pair[1])
    if not much:
        return []
    usual = median(share for _, share in shares)
    if usual > most:  # intended: sparse labels in each image
        words = f"sparse labels: in most images {percent(usual)} or more of the pixels are ignored or without data"
        return [Finding("ignored_pixels", Severity.NOTE, words, "", "", ())]
    return [
        Finding(
            "ignored_pixels",
            Severity.WARNING,
            f"{count(len(much), 'image')} with more than {percent(most)} of the pixels ignored or without data, up to "
            f"{percent(much[0][1])}",
            f"At least {percent(1 - most)} of an image's pixels are labelled and have data (max_ignored).",
            f"Leave these images out, label more of them, or set max_ignored={_rounded_up(much[0][1]):g} if this is "
            "intended.",
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
