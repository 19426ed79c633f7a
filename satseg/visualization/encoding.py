"""Encoding of images for HTML pages, with a bounded file size."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from satseg.visualization.examples import Example, nearest, resize
from satseg.visualization.palette import Colour, colourise

BUDGET = 56_000  # bytes for the four images of an example
MARGIN = 0.9  # safety factor when images over the budget are scaled down
QUALITY = 78  # of WebP: no visible loss in photographs at this size


@dataclass(frozen=True)
class Embedded:
    """An image embedded in a page as text.

    Attributes:
        label: Its label.
        data: The WebP file as base64.
        width: Width in pixels.
        height: Height in pixels.
    """

    label: str
    data: str
    width: int
    height: int


def embed_example(example: Example, palette: Sequence[Colour]) -> list[Embedded]:
    """Encode image, truth, prediction and errors; masks keep their exact colours.

    The four files take at most `BUDGET` bytes in total: images that compress badly, such as noise, are scaled down.
    """
    masks = {"truth": colourise(example.truth, palette), "prediction": colourise(example.predicted, palette)}
    size = example.truth.shape
    while True:
        files = {
            "image": webp(resize(example.rgb, size), lossless=False),
            **{label: webp(nearest(mask, size), lossless=True) for label, mask in masks.items()},
            "errors": webp(resize(example.errors, size), lossless=False),
        }
        num_bytes = sum(map(len, files.values()))
        if num_bytes <= BUDGET or max(size) == 1:
            return _embedded(files, size)
        scale = MARGIN * math.sqrt(BUDGET / num_bytes)
        size = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))


def webp(picture: np.ndarray, *, lossless: bool, quality: int = QUALITY) -> bytes:
    """Return an image, uint8 (H, W, 3), as a WebP file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "WEBP", lossless=lossless, quality=quality, method=4)
    return file.getvalue()


def _embedded(files: Mapping[str, bytes], size: tuple[int, ...]) -> list[Embedded]:
    return [Embedded(label, base64.b64encode(data).decode(), size[1], size[0]) for label, data in files.items()]
