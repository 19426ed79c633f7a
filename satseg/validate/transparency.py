"""Bands that are flagged as transparency, but may be data: near infrared as fourth of four bands, for one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from rasterio.windows import Window

from satseg.data.labels.class_options import option
from satseg.data.rasters.opening import open_raster
from satseg.data.rasters.raster import RasterInfo
from satseg.errors import RasterReadError
from satseg.validate.facts import Facts
from satseg.validate.findings import Finding, Severity, count, percent

LOOKED_AT = 20  # images
SIDE = 512  # pixels of the part in the middle of each that is looked at
HALF_CLEAR = 0.05  # share of pixels neither clear nor opaque from which a band measures; soft edges have fewer


def check_transparency(facts: Sequence[Facts], bands: Sequence[int | str] | None) -> list[Finding]:
    """Look at the bands that take pixels out because the files call them transparency.

    Args:
        facts: Of all samples.
        bands: Numbers or names of the bands that training reads; all but these by default.
    """
    files: dict[str, tuple[RasterInfo, int]] = {}
    for f in facts:
        info = f.headers[0]
        alpha = _alpha(info) if info else None
        if info and alpha and alpha not in (bands or ()) and info.band_names[alpha - 1] not in (bands or ()):
            files[f.image_file] = info, alpha
    if not files:
        return []
    some = list(files.values())[:: max(1, -(-len(files) // LOOKED_AT))]
    half_clear = float(np.mean([_half_clear(*one) for one in some]))
    info, alpha = next(iter(files.values()))
    lost = sum(f.pixels - f.image.usable for f in facts if f.image and f.image_file in files)
    pixels = sum(f.pixels for f in facts if f.image and f.image_file in files)
    message = (
        f"band {alpha} of {count(len(files), 'image')} is flagged as transparency: {percent(lost / max(pixels, 1))} of "
        "their pixels count as missing"
    )
    if half_clear < HALF_CLEAR:
        return [Finding("transparency", Severity.NOTE, message, "", "", tuple(files))]
    return [
        Finding(
            "transparency",
            Severity.WARNING,
            f"{message}; but {percent(half_clear)} of its numbers are neither clear nor opaque, as of a band that "
            "measures, such as near infrared",
            "A band of transparency is 0 where nothing is to be seen, and full elsewhere.",
            f"Where it is data, use {option('bands', list(range(1, len(info.band_names) + 1)))}.",
            tuple(files),
        )
    ]


def _alpha(info: RasterInfo) -> int | None:
    return next((band for band in range(1, len(info.band_names) + 1) if band not in info.bands), None)


def _half_clear(info: RasterInfo, band: int) -> float:
    """Return the share of numbers in the middle of an image's band that are neither 0 nor the highest of their type."""
    width, height = min(SIDE, info.width), min(SIDE, info.height)
    window = Window((info.width - width) // 2, (info.height - height) // 2, width, height)
    with suppress(RasterReadError), open_raster(info.path) as source:  # what is broken is told elsewhere
        numbers = source.read(band, window=window)
        full = np.iinfo(numbers.dtype).max if np.issubdtype(numbers.dtype, np.integer) else 1
        return float(((numbers != 0) & (numbers != full)).mean())
    return 0.0
