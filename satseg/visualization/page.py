"""Self-contained HTML pages: templates and embedded images."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined


class Picture(NamedTuple):
    """A figure in a page: its PNG file as base64, and its size in pixels."""

    title: str
    caption: str
    data: str
    width: int
    height: int


def read_picture(title: str, caption: str, path: Path) -> Picture:
    """Read a PNG file for embedding.

    Raises:
        OSError: If it cannot be read.
    """
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # the PNG header is always first
    return Picture(title, caption, base64.b64encode(content).decode(), width, height)


def render_page(template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """Render a template; values are escaped."""
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
