"""Pictures inside a page: small files whose size is bounded whatever they show."""

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

BUDGET = 56_000  # bytes of the four pictures of an example
MARGIN = 0.9  # by which pictures that took more become smaller than their files' size asks for
QUALITY = 78  # of WebP: photographs without visible loss at this size


@dataclass(frozen=True)
class Embedded:
    """A picture as text for a page.

    Attributes:
        label: What it shows.
        data: Its WebP file as base64.
        width: Pixels.
        height: Pixels.
    """

    label: str
    data: str
    width: int
    height: int


def embed_example(example: Example, palette: Sequence[Colour]) -> list[Embedded]:
    """Encode image, truth, prediction and errors; masks keep their exact colours.

    All four together take at most `BUDGET` bytes: pictures that hardly compress, such as noise, become smaller.
    """
    masks = {"truth": colourise(example.truth, palette), "prediction": colourise(example.predicted, palette)}
    size = example.truth.shape
    while True:
        files = {
            "image": webp(resize(example.rgb, size), lossless=False),
            **{label: webp(nearest(mask, size), lossless=True) for label, mask in masks.items()},
            "errors": webp(resize(example.errors, size), lossless=False),
        }
        taken = sum(map(len, files.values()))
        if taken <= BUDGET or max(size) == 1:
            return _embedded(files, size)
        scale = MARGIN * math.sqrt(BUDGET / taken)
        size = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))


def webp(picture: np.ndarray, *, lossless: bool, quality: int = QUALITY) -> bytes:
    """Return a picture, uint8 (H, W, 3), as a WebP file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "WEBP", lossless=lossless, quality=quality, method=4)
    return file.getvalue()


def _embedded(files: Mapping[str, bytes], size: tuple[int, ...]) -> list[Embedded]:
    return [Embedded(label, base64.b64encode(data).decode(), size[1], size[0]) for label, data in files.items()]
