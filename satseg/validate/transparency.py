"""Detection of data bands that are flagged as transparency, such as near infrared as the fourth band."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from rasterio.windows import Window

from satseg.data.labels.class_options import format_option
from satseg.data.rasters.header import RasterInfo
from satseg.data.rasters.opening import open_raster
from satseg.errors import RasterReadError
from satseg.validate.facts import Facts
from satseg.validate.findings import Finding, Severity, count, percent

MAX_IMAGES = 20  # examined
SIDE = 512  # of the central part that is examined, in pixels
MIN_INTERMEDIATE = 0.05  # share of pixels neither transparent nor opaque in a data band; soft edges have less


def check_transparency(facts: Sequence[Facts], bands: Sequence[int | str] | None) -> list[Finding]:
    """Check the bands that mask pixels because the files flag them as transparency.

    Args:
        facts: Facts of all samples.
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
    some = list(files.values())[:: max(1, -(-len(files) // MAX_IMAGES))]
    intermediate = float(np.mean([_intermediate_share(*one) for one in some]))
    info, alpha = next(iter(files.values()))
    lost = sum(f.pixels - f.image.usable for f in facts if f.image and f.image_file in files)
    pixels = sum(f.pixels for f in facts if f.image and f.image_file in files)
    message = (
        f"band {alpha} of {count(len(files), 'image')} is flagged as transparency: {percent(lost / max(pixels, 1))} of "
        "their pixels count as missing"
    )
    if intermediate < MIN_INTERMEDIATE:
        return [Finding("transparency", Severity.NOTE, message, "", "", tuple(files))]
    return [
        Finding(
            "transparency",
            Severity.WARNING,
            f"{message}; but {percent(intermediate)} of its values are neither transparent nor opaque, as of a "
            "measurement such as near infrared",
            "An alpha band is 0 where pixels are missing, and at its maximum elsewhere.",
            f"If it is data, use {format_option('bands', list(range(1, len(info.band_names) + 1)))}.",
            tuple(files),
        )
    ]


def _alpha(info: RasterInfo) -> int | None:
    return next((band for band in range(1, len(info.band_names) + 1) if band not in info.bands), None)


def _intermediate_share(info: RasterInfo, band: int) -> float:
    """Return the share of values in the centre of a band that are neither 0 nor the maximum of their dtype."""
    width, height = min(SIDE, info.width), min(SIDE, info.height)
    window = Window((info.width - width) // 2, (info.height - height) // 2, width, height)
    with suppress(RasterReadError), open_raster(info.path) as source:  # broken files are reported elsewhere
        numbers = source.read(band, window=window)
        full = np.iinfo(numbers.dtype).max if np.issubdtype(numbers.dtype, np.integer) else 1
        return float(((numbers != 0) & (numbers != full)).mean())
    return 0.0
