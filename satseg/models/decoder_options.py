"""Checks of a decoder's options from configurations and model files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from satseg.errors import ModelError
from satseg.signatures import first_mismatch

ENCODER_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_]+)?")  # without a hub or folder prefix, which timm would open
# Options that would make a constructor read files, access a hub, or build more than a plain decoder.
FORBIDDEN_OPTIONS = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights", "activation"}
)


MAX_NUMBER = 65_536  # the widest layers of decoders have a few thousand channels
MAX_TEXT = 200
MAX_ENTRIES = 64


def check_options(options: Mapping[str, Any]) -> None:
    """Check that options, at any depth, are allowed in a model file and of reasonable size.

    Raises:
        ModelError: If one is not; names it.
    """
    for path, value in _items(options):
        key = path[-1]
        if isinstance(key, str) and (key in FORBIDDEN_OPTIONS or key.startswith("_")):
            raise ModelError(f"The model has the option {key}={str(value)[:60]}, which is not allowed in a file.")
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:][:80]
        if isinstance(value, str | Mapping | list | tuple):
            most = MAX_TEXT if isinstance(value, str) else MAX_ENTRIES
            if len(value) > most:
                raise ModelError(f"The model's option {name} has the length {len(value)}: expected {most} at most.")
        elif isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:  # rejects NaN as well
            raise ModelError(f"The model's option {name} is {value:.6g}: expected {MAX_NUMBER} at most.")
    encoder = options.get("encoder_name", "")
    if not isinstance(encoder, str):
        shown = "null" if encoder is None else str(encoder)[:60]
        raise ModelError(f"The model's option encoder_name is {shown}: expected the name of a timm model.")
    if "encoder_name" in options and not ENCODER_NAME.fullmatch(encoder):
        raise ModelError(f"encoder_name={encoder} is not a plain timm name.")


def check_types(constructor: type[Any], options: Mapping[str, Any]) -> None:
    """Check option names and types against a decoder's constructor.

    Raises:
        ModelError: If one does not fit; names it and what was expected.
    """
    # encoder_weights is excluded, as satseg sets it, to True for timm.
    found = first_mismatch(constructor, {name: value for name, value in options.items() if name != "encoder_weights"})
    if found is not None:
        raise ModelError(f"The model's option {found[0]} {found[1]}")


def _items(options: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield all options and nested values, each with its path of keys and indices."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), options)]
    while waiting:
        path, value = waiting.pop()
        if path:
            yield path, value
        if isinstance(value, Mapping):
            waiting += [((*path, str(key)), part) for key, part in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [((*path, index), part) for index, part in enumerate(value)]
