"""From raw images and masks to colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IGNORED_GREY = 128
ERROR_RED = (200, 30, 45)
RGB_NAMES = (("red", "b04", "b4", "r"), ("green", "b03", "b3", "g"), ("blue", "b02", "b2", "b"))


def display_bands(band_names: Sequence[str]) -> list[int]:
    """Return the indices of red, green and blue by name; else the first three, or the one band thrice."""
    names = [name.lower() for name in band_names]
    found = [next((names.index(n) for n in wanted if n in names), None) for wanted in RGB_NAMES]
    if None not in found:
        return [i for i in found if i is not None]
    return [0, 1, 2] if len(names) >= 3 else [0, 0, 0]


def display_rgb(
    image: np.ndarray, valid: np.ndarray, low: Sequence[float], high: Sequence[float], band_names: Sequence[str]
) -> np.ndarray:
    """Stretch an image for the eye by constants, so that neighbours in one scene stay comparable.

    Args:
        image: Raw numbers (C, H, W).
        valid: Boolean (H, W); what is not valid becomes black.
        low: Raw numbers that become black, one a band or one for all.
        high: Raw numbers that become white.
        band_names: To find red, green and blue.

    Returns:
        uint8 (H, W, 3).
    """
    bands = display_bands(band_names)
    lows = np.broadcast_to(np.asarray(low, np.float32), len(image))[bands, None, None]
    highs = np.broadcast_to(np.asarray(high, np.float32), len(image))[bands, None, None]
    unit = (image[bands].astype(np.float32) - lows) / np.maximum(highs - lows, 1e-6)
    rgb = np.clip(np.nan_to_num(unit) * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.moveaxis(np.where(valid, rgb, np.uint8(0)), 0, -1)


def colourise(mask: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Return class indices (H, W) as colours (H, W, 3), uint8; what is no class is grey."""
    table = np.full((256, 3), IGNORED_GREY, np.uint8)
    table[: len(palette)] = palette
    return table[mask.astype(np.uint8)]


def show_errors(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Return right pixels in pale grey, wrong ones in red and ignored ones in grey (H, W, 3), uint8."""
    picture = np.full((*truth.shape, 3), 235, np.uint8)
    picture[predicted != truth] = ERROR_RED
    picture[truth >= num_classes] = IGNORED_GREY
    return picture
