"""Example images with truth and prediction, at display size, and their encoding for HTML pages."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from satseg.visualization.overlays import is_counted, show_errors
from satseg.visualization.palette import Colour, colourise

MAX_WIDTH = 350  # pixels
MAX_HEIGHT = 525
BUDGET = 56_000  # bytes for the four images of an example
MARGIN = 0.9  # safety factor when images over the budget are scaled down
QUALITY = 78  # of WebP: no visible loss in photographs at this size


@dataclass(frozen=True)
class Example:
    """An image with its segmentation, reduced to at most `MAX_WIDTH` by `MAX_HEIGHT` pixels, and its scores.

    Attributes:
        name: Name of the image.
        miou: Mean IoU over the classes that occur in truth or prediction; NaN without labelled pixels.
        wrong: Share of labelled pixels with a wrong prediction; NaN without labelled pixels.
        rgb: Colours (H, W, 3), uint8.
        truth: Class indices (H, W), uint8; other indices are ignored.
        predicted: Class indices (H, W), uint8.
        errors: Colours (H, W, 3), uint8: wrong pixels red, ignored ones grey.
    """

    name: str
    miou: float
    wrong: float
    rgb: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    errors: np.ndarray

    @classmethod
    def of(cls, name: str, rgb: np.ndarray, truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> Example:
        """Return the scored and reduced example of an image; arguments as for the class, at full size."""
        counted = is_counted(truth, num_classes)
        pairs = truth[counted].astype(np.int64) * num_classes + predicted[counted]
        matrix = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
        size = fit(truth.shape, enlarge=False)
        return cls(
            name,
            _miou(matrix),
            1 - float(np.trace(matrix)) / len(pairs) if len(pairs) else math.nan,
            resize(rgb, size),
            nearest(truth, size).astype(np.uint8),
            nearest(predicted, size).astype(np.uint8),
            resize(show_errors(rgb, truth, predicted, num_classes), size),
        )

    @property
    def caption(self) -> str:
        """The scores as text."""
        if math.isnan(self.miou):
            return "no labelled pixel"
        return f"mIoU {self.miou:.3f}, {100 * self.wrong:.1f} % of pixels wrong"


def _miou(matrix: np.ndarray) -> float:
    hits = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    return float((hits[union > 0] / union[union > 0]).mean()) if union.any() else math.nan


def fit(shape: tuple[int, ...], enlarge: bool) -> tuple[int, int]:
    """Return the display height and width of an image, keeping its aspect ratio."""
    scale = min(MAX_WIDTH / shape[1], MAX_HEIGHT / shape[0])
    scale = scale if enlarge else min(scale, 1.0)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask (H, W) to a height and width by nearest neighbours."""
    rows, columns = (
        ((np.arange(n) + 0.5) * length / n).astype(int) for n, length in zip(size, mask.shape[:2], strict=True)
    )
    picked: np.ndarray = mask[rows[:, None], columns]
    return picked


def resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image (H, W, 3): by averaging when reducing, without blur when enlarging."""
    method = Image.Resampling.BOX if picture.shape[0] > size[0] else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), method))


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
