"""Errors about unknown mask values, for all masks at once and with options to copy."""

from __future__ import annotations

import time
from collections.abc import Iterable

from satseg.data.labels.class_options import class_options, ignore_options, ignored_values
from satseg.data.labels.discovery import MAX_DISCOVERED, ClassScheme, read_mask_values
from satseg.data.labels.scheme import REPAIR_HINT
from satseg.data.rasters.header import read_info
from satseg.data.samples import Sample
from satseg.errors import DataError, MaskValueError

TIME_LIMIT_S = 20.0  # for reading the other masks


def extend_to_all_masks(error: MaskValueError, scheme: ClassScheme, samples: Iterable[Sample]) -> MaskValueError:
    """Extend an error about one mask to all masks, with options to copy; return it unchanged if that adds nothing.

    Args:
        error: The error raised for one mask.
        scheme: The classes.
        samples: Samples whose masks are read within the time limit.
    """
    fact = str(error).removesuffix(REPAIR_HINT)
    if fact == str(error) or scheme.threshold is not None:
        return error
    unknown: set[int] = set()
    having = read = 0
    until = time.monotonic() + TIME_LIMIT_S
    for path in dict.fromkeys(sample.mask for sample in samples):
        try:
            found = read_mask_values(read_info(path), scheme.by_colour)[0] - scheme.values.keys()
        except DataError:  # not a class mask, which the first error covers
            return error
        unknown |= found
        having, read = having + bool(found), read + 1
        if len(unknown) > MAX_DISCOVERED:
            return error
        if time.monotonic() > until:
            break
    if not unknown:
        return error
    shown = ", ".join(map(scheme.show, sorted(unknown)))
    return MaskValueError(
        f"{fact}{having} of {read} masks hold values of no class: {shown}. To make classes of these, with names of "
        f"your own, use {class_options(scheme, unknown)}; to leave them out, add "
        f"{ignore_options(scheme, unknown | ignored_values(scheme))}; or repair the masks."
    )
