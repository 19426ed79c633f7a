"""Thumbnails of samples with their classes overlaid, for the report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling

from satseg.data.labels.discovery import ClassScheme
from satseg.data.rasters.bands import band_numbers
from satseg.data.rasters.header import RasterInfo, Window
from satseg.data.rasters.opening import open_raster
from satseg.data.rasters.raster import read_bands
from satseg.errors import SatsegError
from satseg.validate.facts import Facts
from satseg.validate.mask_tally import MaskTally
from satseg.visualization.display import display_rgb
from satseg.visualization.figures import Panel
from satseg.visualization.overlays import overlay
from satseg.visualization.palette import colourise

MAX_SAMPLES = 12
SIDE = 256  # longer side of a picture in pixels
OPACITY = 0.5
DISPLAY_PERCENTILES = (2, 98)  # of the values, which become black and white


def sample_panels(
    splits: Mapping[str, Sequence[Facts]], scheme: ClassScheme, bands: Sequence[int | str] | None
) -> list[Panel]:
    """Return panels of image and overlay for samples spread over each split.

    Args:
        splits: Facts by split.
        scheme: The classes.
        bands: As training reads them; all by default.
    """
    found: list[Panel] = []
    for split, facts in _chosen(splits):
        try:
            rgb, classes = _picture(facts, bands), _classes(facts, scheme)
        except SatsegError:  # the file has disappeared since
            continue
        found += [
            Panel(f"{split}: {facts.name}", rgb),
            Panel("", overlay(rgb, colourise(classes, scheme.palette), OPACITY)),
        ]
    return found


def _chosen(splits: Mapping[str, Sequence[Facts]]) -> list[tuple[str, Facts]]:
    each = -(-MAX_SAMPLES // max(len(splits), 1))
    spread = [[(split, f) for f in _spread(facts, each)] for split, facts in splits.items()]
    return [pair for turn in zip_longest(*spread) for pair in turn if pair is not None][:MAX_SAMPLES]


def _spread(facts: Sequence[Facts], number: int) -> list[Facts]:
    whole = [f for f in facts if f.image and f.mask and _size(f.headers[0]) == _size(f.headers[1])]
    return whole[:: max(1, -(-len(whole) // number))]


def _size(info: RasterInfo | None) -> tuple[int, int] | None:
    return (info.width, info.height) if info else None


def _picture(facts: Facts, bands: Sequence[int | str] | None) -> np.ndarray:
    info = facts.image_info
    numbers = list(band_numbers(info, bands)) if info else [1]
    image = _small(facts.sample.image, numbers, Resampling.average, facts.sample.window)
    if image.dtype == np.uint8 and len(numbers) in (1, 3):
        low, high = np.zeros(len(image)), np.full(len(image), 255.0)
    else:
        pixels = np.where(np.isfinite(image), image, np.nan).reshape(len(image), -1)
        low, high = np.nan_to_num(np.nanpercentile(pixels, DISPLAY_PERCENTILES, axis=1))
    names = [info.band_names[n - 1] for n in numbers] if info else []
    return display_rgb(image, np.ones(image.shape[1:], bool), low.tolist(), high.tolist(), band_names=names)


def _classes(facts: Facts, scheme: ClassScheme) -> np.ndarray:
    if facts.mask_info is None:
        raise SatsegError(f"{facts.mask_file} cannot be read.")
    raw = _small(facts.sample.mask, list(facts.mask_info.bands), Resampling.nearest, facts.sample.window)
    return MaskTally(facts.mask_info, scheme, lossy=False).add(raw, np.ones(raw.shape[1:], bool), None)


def _small(path: Path, bands: list[int], resampling: Resampling, part: Window | None) -> np.ndarray:
    with open_raster(path) as source:
        window = part or Window(0, 0, source.width, source.height)
        scale = min(1.0, SIDE / max(window.width, window.height))
        shape = max(1, round(window.height * scale)), max(1, round(window.width * scale))
        where = rasterio.windows.Window(*window)
        return read_bands(source, bands, out_shape=shape, resampling=resampling, window=where)
