"""Stretching of raw values to 8-bit RGB for display."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from satseg.errors import BandError
from satseg.spec import DatasetSpec

RGB_NAMES = (("red", "b04", "b4", "r"), ("green", "b03", "b3", "g"), ("blue", "b02", "b2", "b"))


def display_bands(band_names: Sequence[str]) -> list[int]:
    """Return the indices of red, green and blue by name; otherwise of the first three bands, or one band three times.

    Names are matched as a whole, then by word: "B04", "Red", "B4 - red" are red, "red edge" is not.
    """
    words = [re.findall(r"[a-z0-9]+", name.lower()) for name in band_names]
    found = [_find(wanted, words) for wanted in RGB_NAMES]
    if None not in found:
        return [i for i in found if i is not None]
    return [0, 1, 2] if len(band_names) >= 3 else [0, 0, 0]


def _find(wanted: Sequence[str], words: Sequence[list[str]]) -> int | None:
    whole = [i for name in wanted for i, found in enumerate(words) if found == [name]]
    within = [i for name in wanted for i, found in enumerate(words) if name in found and "edge" not in found]
    return next(iter(whole + within), None)


def display_rgb(
    image: np.ndarray,
    valid: np.ndarray,
    low: Sequence[float],
    high: Sequence[float],
    bands: Sequence[int] | None = None,
    band_names: Sequence[str] = (),
) -> np.ndarray:
    """Stretch an image for display by constants, so that images of the same scene stay comparable.

    Args:
        image: Raw values (C, H, W).
        valid: Boolean (H, W); invalid pixels become black.
        low: Raw values that become black, one per band or one for all.
        high: Raw values that become white.
        bands: Indices of red, green and blue; by default found by `band_names`, otherwise the first three bands, or the
            first one as grey if there are fewer.
        band_names: Names for finding red, green and blue.

    Returns:
        uint8 (H, W, 3).

    Raises:
        BandError: If `bands` are not three indices of the image's bands.
    """
    count = len(image)
    chosen = list(bands) if bands is not None else display_bands(band_names or [""] * count)
    if len(chosen) != 3 or not all(0 <= band < count for band in chosen):
        raise BandError(f"bands={chosen}: expected three indices, each from 0 to {count - 1}, for red, green and blue.")
    lows = np.broadcast_to(np.asarray(low, np.float32), count)[chosen, None, None]
    highs = np.broadcast_to(np.asarray(high, np.float32), count)[chosen, None, None]
    with np.errstate(over="ignore", invalid="ignore"):  # huge or non-finite values are clipped below
        unit = (image[chosen].astype(np.float32) - lows) / np.maximum(highs - lows, 1e-6)
        rgb = np.clip(np.nan_to_num(unit) * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.moveaxis(np.where(valid, rgb, np.uint8(0)), 0, -1)


def to_rgb(image: Tensor, valid: Tensor, spec: DatasetSpec) -> np.ndarray:
    """Stretch an image for display by constants of the training split.

    Args:
        image: Raw values (C, H, W).
        valid: Boolean (H, W).
        spec: The dataset spec.

    Returns:
        uint8 (H, W, 3).
    """
    source = spec.inputs[0]
    low, high = (source.statistics.p02, source.statistics.p98) if source.statistics else ((0,), (255,))
    if source.dtype == "uint8" and len(source.bands) in (1, 3):  # already made for display
        low, high = (0,), (255,)
    return display_rgb(image.numpy(), valid.numpy(), low, high, band_names=source.bands)
