"""What masks hold that no class is: of all masks at once, with the options that would say it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from satseg.data.labels.class_options import class_options, ignore_options, ignored_values
from satseg.data.labels.discovery import MAX_DISCOVERED, ClassScheme, read_mask_values
from satseg.data.labels.scheme import REPAIR
from satseg.data.rasters.raster import read_info
from satseg.data.samples import Sample
from satseg.errors import DataError, MaskValueError

PATIENCE_S = 20.0  # that looking into the other masks may take


def list_all_unknown(error: MaskValueError, scheme: ClassScheme, samples: Iterable[Sample]) -> MaskValueError:
    """Return the error about one mask as one about all, with options ready to copy; itself, where that says nothing.

    Args:
        error: As reading the mask raised it.
        scheme: The classes.
        samples: Whose masks are looked into, as far as the time goes.
    """
    fact = str(error).removesuffix(REPAIR)
    if fact == str(error) or scheme.threshold is not None:
        return error
    unknown: set[int] = set()
    having = read = 0
    until = time.monotonic() + PATIENCE_S
    for path in dict.fromkeys(sample.mask for sample in samples):
        try:
            found = read_mask_values(read_info(path), scheme.by_colour)[0] - scheme.values.keys()
        except DataError:  # no mask of classes, which is for the user to see to
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
        f"{fact}{having} of {read} masks hold what is no class: {shown}. To make classes of these, with names of your "
        f"own, use {class_options(scheme, unknown)}; to leave them out, add "
        f"{ignore_options(scheme, unknown | ignored_values(scheme))}; or repair the masks."
    )
