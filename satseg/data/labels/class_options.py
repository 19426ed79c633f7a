"""Command-line options that define a dataset's classes, ready to copy, and errors about unknown mask values."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from satseg.data.labels.discovery import MAX_DISCOVERED, ClassScheme, default_colour, read_mask_values
from satseg.data.labels.scheme import REPAIR_HINT
from satseg.data.rasters.header import read_info
from satseg.data.samples import Sample
from satseg.errors import DataError, MaskValueError
from satseg.spec import IGNORE_INDEX

SPECIAL = "\\()[]{}:=,"  # special in Hydra's grammar unless escaped by a backslash
TIME_LIMIT_S = 20.0  # for reading the other masks


def describe_found_classes(scheme: ClassScheme) -> str:
    """Return a sentence about the classes discovered in the masks, and how to name them."""
    return (
        f"{len(scheme.names)} classes, found in the masks: {', '.join(scheme.names)}. To name them, add this with your "
        f"own names, which explain, predict and all reports will use: {class_options(scheme)}"
    )


def class_options(scheme: ClassScheme, more: Collection[int] = (), ignore: Collection[int] = ()) -> str:
    """Return the options that define the classes of a scheme, quoted for a shell.

    Args:
        scheme: The classes.
        more: Further values, or packed colours, to make classes of; negative values are ignored instead.
        ignore: Further values, or packed colours, to ignore.
    """
    classes = _classes(scheme)
    for value in sorted(v for v in more if v >= 0):
        name = f"color_{value:06x}" if scheme.by_colour else f"class_{value}"
        while name in classes:
            name += "_"
        classes[name] = _key(value, scheme)
    ignored = ignored_values(scheme) | {v for v in more if v < 0} | set(ignore)
    return format_option("classes", classes) + (f" {ignore_options(scheme, ignored)}" if ignored else "")


def ignored_values(scheme: ClassScheme) -> set[int]:
    """Return the values, or packed colours, that a scheme ignores beyond the default."""
    ignored = {value for value, index in scheme.values.items() if index == IGNORE_INDEX}
    return ignored if scheme.by_colour else ignored - {IGNORE_INDEX}


def ignore_options(scheme: ClassScheme, values: Collection[int]) -> str:
    """Return the option that ignores values, or packed colours, quoted for a shell."""
    return format_option("ignore_values", [_key(value, scheme) for value in sorted(values)])


def _classes(scheme: ClassScheme) -> dict[str, Any]:
    classes: dict[str, Any] = {}
    for index, (name, colour) in enumerate(zip(scheme.names, scheme.palette, strict=True)):
        keys = [_key(value, scheme) for value, number in sorted(scheme.values.items()) if number == index]
        if scheme.by_colour:
            keys.sort(key=lambda key: key != list(colour))  # stable; the display colour comes first
        one = keys[0] if len(keys) == 1 else keys
        plain = scheme.by_colour or (len(keys) == 1 and colour == default_colour(index))
        shown = {} if colour == default_colour(index) else {"color": list(colour)}
        classes[name] = one if plain else {"value": one} | shown
    return classes


def _key(value: int, scheme: ClassScheme) -> Any:
    return [value >> 16, value >> 8 & 255, value & 255] if scheme.by_colour else value


def format_option(name: str, value: Any) -> str:
    """Return a dataset option quoted for a shell, or as a line of YAML if Hydra's grammar cannot express it."""
    text = _text(value)
    try:
        read = OverridesParser.create().parse_override(f"{name}={text}").value()
    except HydraException:
        read = None
    if isinstance(read, type(value)) and [*map(str, read)] == [*map(str, value)]:
        return f"dataset.{name}={shlex.quote(text)}"
    return f"(in a YAML file of your own) {name}: {json.dumps(value, ensure_ascii=False)}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_escaped(str(key))}: {_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)


def _escaped(key: str) -> str:
    return "".join(f"\\{letter}" if letter in SPECIAL else letter for letter in key)


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
