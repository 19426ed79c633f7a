"""Rendering of uploads and their maps for the screen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from satseg.data.rasters.header import RasterInfo
from satseg.data.rasters.opening import open_raster
from satseg.serve.segmenting import Segmented
from satseg.spec import DatasetSpec
from satseg.visualization.display import display_bands, display_rgb
from satseg.visualization.overlays import heat, overlay
from satseg.visualization.palette import IGNORED_GREY, colourise, css

SIDE = 1024  # maximum of an image's longer side in pixels
ENLARGED = 512  # to which tiny images are enlarged
STRETCH = (2, 98)  # percentiles mapped to black and white
CONFIDENCE = "viridis"
HEAT_STEPS = 9  # of the evidence colour scale
MARK = (255, 255, 255)
MARK_EDGE = (0, 0, 0)


@dataclass(frozen=True)
class DisplayOptions:
    """Display options of a map.

    Attributes:
        opacity: Opacity of the class colours, 0 to 1.
        shown: Indices of the visible classes; all by default.
        bands: Indices of the file's bands for red, green and blue; chosen by band names by default.
    """

    opacity: float = 0.5
    shown: Collection[int] | None = None
    bands: Sequence[int] | None = None


def band_names(info: RasterInfo) -> list[str]:
    """Return the names of a file's bands, without an alpha band."""
    return [info.band_names[number - 1] for number in info.bands]


def picture_of(
    info: RasterInfo, image: np.ndarray, valid: np.ndarray, bands: Sequence[int] | None = None
) -> np.ndarray:
    """Render an image: 8-bit photographs unchanged, others stretched by band.

    Args:
        info: The file's header.
        image: Raw values (C, h, w) of its bands.
        valid: Boolean (h, w).
        bands: Indices for red, green and blue; chosen by band names by default.

    Returns:
        uint8 (h, w, 3).
    """
    low, high = np.zeros(len(image)), np.full(len(image), 255.0)
    if (info.dtype != "uint8" or len(image) > 3) and valid.any():
        low, high = np.percentile(image[:, valid].astype(np.float64), STRETCH, axis=1)
    chosen = display_bands(band_names(info)) if bands is None else bands
    return display_rgb(image, valid, low.tolist(), high.tolist(), chosen)


def overlaid(base: np.ndarray, small: Thumbnails, spec: DatasetSpec, look: DisplayOptions) -> np.ndarray:
    """Blend the colours of the visible classes over an image."""
    mixed = overlay(base, colourise(small.classes, spec.palette), look.opacity)
    shown = np.isin(small.classes, list(range(spec.num_classes) if look.shown is None else look.shown))
    result: np.ndarray = np.where(shown[..., None], mixed, base)
    return result


def confidence_picture(small: Thumbnails) -> np.ndarray:
    """Render the probability of the predicted class, from dark for 0 to bright for 1."""
    colours = colormaps[CONFIDENCE](np.nan_to_num(small.confidence))[..., :3] * 255
    nothing = np.isnan(small.confidence)[..., None]
    return np.where(nothing, np.array(IGNORED_GREY), colours + 0.5).astype(np.uint8)


def heat_colours() -> list[str]:
    """Return the evidence colour scale over a grey image, from none to strongest, in CSS notation."""
    (row,) = heat(np.full((1, HEAT_STEPS, 3), 128, np.uint8), np.linspace(0, 1, HEAT_STEPS)[None])
    return [css((red, green, blue)) for red, green, blue in row.tolist()]


def read(path: Path) -> np.ndarray:
    """Read an image file, uint8 (h, w, 3)."""
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB"))


def enlarge(picture: np.ndarray) -> np.ndarray:
    """Enlarge a tiny image by an integer factor, so that single pixels can be seen and clicked."""
    factor = factor_of(picture.shape[:2])
    return picture.repeat(factor, 0).repeat(factor, 1)


def factor_of(shape: tuple[int, ...]) -> int:
    """Return the enlargement factor of an image."""
    return max(1, ENLARGED // max(shape[:2]))


def marked(picture: np.ndarray, region: Sequence[int]) -> np.ndarray:
    """Mark a pixel (col, row) with a cross, or a box (col, row, width, height) with its outline."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for colour, width in ((MARK_EDGE, 5), (MARK, 2)):
        if len(region) == 2:
            col, row = region
            draw.line((col - 12, row, col + 12, row), colour, width)
            draw.line((col, row - 12, col, row + 12), colour, width)
        else:
            col, row, wide, high = region
            draw.rectangle((col, row, col + wide, row + high), outline=colour, width=width)
    return np.asarray(image)


@dataclass(frozen=True)
class Thumbnails:
    """An image and its map at screen size.

    Attributes:
        image: Raw values (C, h, w) of all bands of the file.
        valid: Boolean (h, w).
        classes: Indices (h, w), uint8; the ignore index where the image is missing.
        confidence: Probability (h, w) of the predicted class, 0 to 1; NaN where the image is missing.
    """

    image: np.ndarray
    valid: np.ndarray
    classes: np.ndarray
    confidence: np.ndarray


def thumbnails(found: Segmented, side: int) -> Thumbnails:
    """Read image and map downsampled to at most `side` pixels a side."""
    scene = replace(found.scene, bands=found.upload.info.bands)
    with scene.open() as reader:
        image, valid = reader.thumbnail(side)
    with open_raster(found.classes) as source:
        classes = source.read(1, out_shape=valid.shape)
    with open_raster(found.probabilities) as source:
        top = source.read(out_shape=(source.count, *valid.shape)).max(0)
    nothing = classes == 255
    confidence = np.where(nothing, np.nan, top / np.float32(254))
    return Thumbnails(image, valid & ~nothing, classes, confidence)


def probabilities_at(found: Segmented, col: int, row: int) -> list[float] | None:
    """Return the class probabilities of a pixel; None if it is missing."""
    with open_raster(found.probabilities) as source:
        stored = source.read(window=((row, row + 1), (col, col + 1)))[:, 0, 0]
    return None if (stored == 255).all() else (stored / 254).tolist()
