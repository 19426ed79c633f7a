"""What self-contained HTML pages share: templates, and pictures inside them."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined


class Picture(NamedTuple):
    """A figure of the page: its PNG file's content as base64, and its size in pixels."""

    title: str
    caption: str
    data: str
    width: int
    height: int


def read_picture(title: str, caption: str, path: Path) -> Picture:
    """Read a PNG file into a page.

    Raises:
        OSError: If it cannot be read.
    """
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # a PNG's header, always first
    return Picture(title, caption, base64.b64encode(content).decode(), width, height)


def render_page(template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """Fill a template of this folder; whatever the values hold, it is shown as text."""
    environment = Environment(
        loader=PackageLoader("satseg.visualization"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    page: str = environment.get_template(template).render(**values)
    return page.encode("utf-8", "replace").decode()  # file names may hold undecodable bytes
