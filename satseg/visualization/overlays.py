"""Colour overlays on images."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps

from satseg.errors import ConfigError
from satseg.visualization.palette import ERROR_RED, IGNORED_GREY

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
HEAT_OPACITY = 0.75
FADE = 0.3  # share of an image's contrast that is kept under errors


def overlay(rgb: np.ndarray, mask_rgb: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Blend a coloured mask over an image.

    Args:
        rgb: The image, uint8 (H, W, 3).
        mask_rgb: The colours, uint8 (H, W, 3).
        opacity: 0 shows only the image, 1 only the colours.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ConfigError: If the opacity is not between 0 and 1.
    """
    if not 0 <= opacity <= 1:
        raise ConfigError(f"opacity={opacity}: expected a number from 0 (image only) to 1 (mask only).")
    mixed = rgb.astype(np.float32) * (1 - opacity) + mask_rgb.astype(np.float32) * opacity
    return (mixed + 0.5).astype(np.uint8)


def heat(rgb: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Overlay the positive part of a heat map on an image; larger values are brighter and more opaque.

    Args:
        rgb: The image, uint8 (H, W, 3).
        evidence: Values (H, W); without positive values, the image is unchanged.

    Returns:
        uint8 (H, W, 3).
    """
    positive = np.clip(np.nan_to_num(evidence), 0, None)
    unit = positive / max(float(positive.max()), np.finfo(np.float32).tiny)
    glow = colormaps["inferno"](0.25 + 0.75 * unit)[..., :3] * 255
    opacity = np.minimum(1, 1.5 * unit)[..., None] * HEAT_OPACITY
    mixed: np.ndarray = rgb * (1 - opacity) + glow * opacity + 0.5
    return mixed.astype(np.uint8)


def signed_heat(rgb: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Overlay a heat map on an image faded to pale grey: positive values red, negative values blue.

    Args:
        rgb: The image, uint8 (H, W, 3).
        evidence: Values (H, W); the largest magnitude has the strongest colour.

    Returns:
        uint8 (H, W, 3).
    """
    defined = np.nan_to_num(evidence)
    unit = defined / max(float(np.abs(defined).max()), np.finfo(np.float32).tiny)
    glow = colormaps["RdBu_r"](0.5 + 0.5 * unit)[..., :3] * 255
    opacity = np.sqrt(np.abs(unit))[..., None]  # makes weak evidence visible
    mixed: np.ndarray = pale_grey(rgb) * (1 - opacity) + glow * opacity + 0.5
    return mixed.astype(np.uint8)


def pale_grey(rgb: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3), uint8, faded to pale grey."""
    luma = rgb.astype(np.float32) @ LUMA
    pale = (255 - FADE * (255 - luma) + 0.5).astype(np.uint8)
    return np.repeat(pale[..., None], 3, axis=-1)


def show_errors(rgb: np.ndarray, truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Return a map of prediction errors on the image faded to pale grey.

    Args:
        rgb: The image, uint8 (H, W, 3).
        truth: True class indices (H, W); other indices are ignored.
        predicted: Predicted class indices (H, W).
        num_classes: K.

    Returns:
        uint8 (H, W, 3): wrong pixels red, ignored ones grey.
    """
    picture = pale_grey(rgb)
    counted = is_counted(truth, num_classes)
    picture[counted & (predicted != truth)] = ERROR_RED
    picture[~counted] = IGNORED_GREY
    return picture


def is_counted(truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Return a mask of the pixels whose truth is a class, boolean (H, W)."""
    counted: np.ndarray = (truth >= 0) & (truth < num_classes)
    return counted
