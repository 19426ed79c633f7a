"""Names of raster files, in the order that people expect."""

from __future__ import annotations

import re


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key that puts `part_2` before `part_10`."""
    return [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in re.split(r"(\d+)", name)]
