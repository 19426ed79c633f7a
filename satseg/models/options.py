"""Which options of a decoder's constructor a configuration or a file may give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from satseg.errors import ModelError

ENCODER_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_]+)?")  # no hub or folder prefix, which timm would open
# Options by which a constructor would read a file, ask a hub, or build anything but a plain decoder.
FORBIDDEN_OPTIONS = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights", "activation"}
)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that a model file must not hold, at any depth.

    Raises:
        ModelError: Names the option.
    """
    for key, value in _items(options):
        if key in FORBIDDEN_OPTIONS or key.startswith("_"):
            raise ModelError(f"The model has the option {key}={value}, which is not allowed in a file.")
    encoder = options.get("encoder_name")
    if encoder is not None and not ENCODER_NAME.fullmatch(str(encoder)):
        raise ModelError(f"encoder_name={encoder} is no plain timm name.")


def _items(value: Any) -> list[tuple[str, Any]]:
    """Return all keys with their values, at every depth."""
    if isinstance(value, Mapping):
        return [(str(k), v) for k, v in value.items()] + [i for v in value.values() for i in _items(v)]
    if isinstance(value, list | tuple):
        return [i for v in value for i in _items(v)]
    return []
