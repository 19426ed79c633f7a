"""Class colours, and colouring of class indices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from satseg.errors import ConfigError
from satseg.spec import IGNORE_INDEX, MAX_CLASSES

Colour = tuple[int, int, int]

IGNORED_GREY: Colour = (128, 128, 128)
ERROR_RED: Colour = (214, 20, 40)
# Okabe and Ito, "Color Universal Design" (2008), without black, which marks pixels outside the raster.
OKABE_ITO: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
)
RESERVED: tuple[Colour, ...] = (IGNORED_GREY, ERROR_RED, (0, 0, 0), (255, 255, 255))
LIGHTNESS = (0.35, 0.93)  # in OKLab: not too close to black or white
LIGHTNESS_WEIGHT = 0.7  # differences in lightness count less, as texture and shade mask them
DICHROMAT_WEIGHT = 1.7  # differences in dichromat vision count, but do not rule out hues that are otherwise distinct
# Viénot, Brettel and Mollon (1999): linear RGB in normal, protanope and deuteranope vision.
VISION = np.array(
    [
        np.eye(3),
        [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
        [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
    ]
)
# Ottosson (2020), "A perceptual color space for image processing": linear RGB to OKLab.
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def default_palette(num_classes: int) -> tuple[Colour, ...]:
    """Return distinct colours that are, as far as their number allows, distinguishable for colour-blind readers.

    The first seven are those of Okabe and Ito; each further one is the colour of an RGB grid farthest from all previous
    ones in OKLab, in the worst of normal, protanope and deuteranope vision. Shorter palettes are prefixes of longer
    ones. Black, white, the grey of ignored pixels and the red of errors are reserved.

    Args:
        num_classes: Number of colours, up to 255.

    Raises:
        ConfigError: If the number is below 1 or above 255.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ConfigError(f"A palette has 1 to {MAX_CLASSES} colours, but {num_classes} are requested.")
    return _palette(max(num_classes, len(OKABE_ITO)))[:num_classes]


@lru_cache
def _palette(count: int) -> tuple[Colour, ...]:
    levels = np.arange(8, 256, 24)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lightness = _as_seen(grid)[0, :, 0]
    grid = grid[(lightness > LIGHTNESS[0]) & (lightness < LIGHTNESS[1])]
    seen = _as_seen(grid)
    chosen = list(OKABE_ITO)
    nearest = _distance(seen, (*RESERVED, *chosen))
    while len(chosen) < count:
        best = grid[nearest.argmax()]
        chosen.append((int(best[0]), int(best[1]), int(best[2])))
        nearest = np.minimum(nearest, _distance(seen, chosen[-1:]))
    return tuple(chosen)


def _distance(seen: np.ndarray, others: Sequence[Colour]) -> np.ndarray:
    """Return each colour's distance (n,) to the nearest of the others, in the vision where it is smallest."""
    gaps = (seen[:, :, None] - _as_seen(np.asarray(others))[:, None]) * (LIGHTNESS_WEIGHT, 1, 1)
    lengths = np.linalg.norm(gaps, axis=-1)
    lengths[1:] *= DICHROMAT_WEIGHT
    smallest: np.ndarray = lengths.min((0, 2))
    return smallest


def _as_seen(colours: np.ndarray) -> np.ndarray:
    """Return OKLab coordinates (vision, n, 3) of sRGB colours (n, 3), 0 to 255."""
    unit = colours / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.einsum("vij,nj->vni", VISION, linear), 0, 1)
    lab: np.ndarray = np.cbrt(seen @ TO_LMS.T) @ TO_LAB.T
    return lab


def colourise(mask: np.ndarray, palette: Sequence[Colour], ignore_index: int = IGNORE_INDEX) -> np.ndarray:
    """Return class indices as colours.

    Args:
        mask: Class indices (H, W), any integer dtype.
        palette: One colour per class.
        ignore_index: Index of pixels without a class; they become grey, as do other indices without a colour.

    Returns:
        uint8 (H, W, 3).
    """
    grey = len(palette)
    table = np.array([*palette, IGNORED_GREY], np.uint8)
    known = (mask >= 0) & (mask < grey) & (mask != ignore_index)
    coloured: np.ndarray = table[np.where(known, mask, grey)]
    return coloured


def css(colour: Colour) -> str:
    """Return a colour as `#rrggbb`, for matplotlib and CSS."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
