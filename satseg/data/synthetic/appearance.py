"""Rendering of a layout as a sensor sees it: materials, texture, shadows, light, haze and noise."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from satseg.data.synthetic.layout import (
    BARE,
    BUILDING,
    CROPLAND,
    FOREST,
    ROAD,
    SOLAR,
    WATER,
    Layout,
    Random,
    smooth_noise,
)

BAND_NAMES = ("blue", "green", "red", "nir", "swir1", "swir2")
# Reflectance in blue, green, red, near and short-wave infrared. Classes share materials, so that colour alone
# does not determine the class: water is as dark as shade, roofs and roads share materials, some fields are bare.
MATERIALS = {
    "dark_green": (0.040, 0.075, 0.045, 0.24, 0.11, 0.06),
    "light_green": (0.065, 0.130, 0.080, 0.34, 0.18, 0.10),
    "olive": (0.070, 0.110, 0.095, 0.23, 0.20, 0.12),
    "brown": (0.080, 0.110, 0.135, 0.20, 0.26, 0.20),
    "tan": (0.135, 0.180, 0.220, 0.28, 0.35, 0.29),
    "grey": (0.150, 0.160, 0.165, 0.19, 0.22, 0.20),
    "dark_grey": (0.070, 0.075, 0.080, 0.10, 0.12, 0.11),
    "murky": (0.060, 0.080, 0.060, 0.05, 0.03, 0.02),
    "deep": (0.050, 0.055, 0.035, 0.03, 0.02, 0.01),
    "red_brown": (0.085, 0.095, 0.165, 0.23, 0.26, 0.22),
    "white": (0.270, 0.280, 0.290, 0.30, 0.29, 0.26),
}
MIXTURES = {
    WATER: {"deep": 5, "murky": 4, "dark_green": 1, "dark_grey": 1},
    FOREST: {"dark_green": 6, "olive": 1},
    CROPLAND: {"light_green": 6, "olive": 2, "tan": 1},
    BARE: {"tan": 2, "brown": 6},
    ROAD: {"grey": 5, "dark_grey": 1},
    BUILDING: {"red_brown": 5, "white": 3, "grey": 1, "tan": 1},
    SOLAR: {"deep": 2, "dark_grey": 4},
}
SHADE = 0.45  # share of light in the shade


def render(layout: Layout, random: Random) -> np.ndarray:
    """Return reflectance (6, H, W), float32, from 0 to about 1."""
    size = layout.classes.shape[0]
    surface = _materials(layout, random) * _texture(layout, random, size)
    surface *= _light(layout, random, size)
    scene = np.stack([gaussian_filter(band, 0.6) for band in surface])
    cast = random.uniform(0.95, 1.05, (6, 1, 1)) * random.uniform(0.9, 1.1)
    haze = np.array((0.030, 0.022, 0.016, 0.008, 0.003, 0.002))[:, None, None] * random.uniform(0, 1.0)
    scene = scene * cast + haze * (1 + 0.5 * smooth_noise(random, size, 100))
    scene += random.standard_normal(scene.shape) * random.uniform(0.003, 0.008)
    return np.clip(scene, 0.0005, 1.0).astype(np.float32)


def _materials(layout: Layout, random: Random) -> np.ndarray:
    """Assign each object a material from its class's mixture, varied by a few percent."""
    objects, places = np.unique(layout.objects, return_inverse=True)
    spectra = np.array(list(MATERIALS.values()))
    names = list(MATERIALS)
    chosen = np.empty((len(objects), 6))
    for kind, mixture in MIXTURES.items():
        mine = objects // 100_000 == kind
        shares = np.array([mixture.get(name, 0) for name in names], float)
        first, second = (random.choice(len(names), mine.sum(), p=shares / shares.sum()) for _ in range(2))
        blend = random.uniform(0, 0.3, (mine.sum(), 1))
        chosen[mine] = spectra[first] * (1 - blend) + spectra[second] * blend
    chosen *= random.uniform(0.87, 1.15, (len(objects), 1)) * random.uniform(0.92, 1.08, chosen.shape)
    return np.moveaxis(chosen[places.reshape(layout.objects.shape)], -1, 0)


def _texture(layout: Layout, random: Random, size: int) -> np.ndarray:
    """Return texture: rows in fields, crowns in forests, ridges on roofs, panels in solar parks, smooth water."""
    fine, crowns, patches = (
        smooth_noise(random, size, 1),
        smooth_noise(random, size, 2.6),
        smooth_noise(random, size, 14),
    )
    texture = 1 + 0.06 * fine + 0.07 * patches
    numbers = layout.objects % 997
    periods = random.uniform(6, 10, 997)[numbers]
    strengths = random.uniform(0.08, 0.24, 997)[numbers]
    rows = np.sin(2 * np.pi * layout.along / periods)
    texture = np.where(layout.classes == CROPLAND, texture + strengths * rows, texture)
    texture = np.where(layout.classes == FOREST, 1 + 0.2 * crowns + 0.05 * fine, texture)
    texture = np.where(layout.classes == BARE, texture + 0.1 * crowns, texture)
    texture = np.where(layout.classes == BUILDING, texture + 0.16 * np.sign(layout.along), texture)
    panels = (layout.along % 8) < 5
    texture = np.where(layout.classes == SOLAR, np.where(panels, 1.0, 2.3) + 0.05 * fine, texture)
    ripples = 0.05 * fine + 0.09 * smooth_noise(random, size, 30) + 0.04 * crowns
    return np.where(layout.classes == WATER, 1 + ripples, texture)


def _light(layout: Layout, random: Random, size: int) -> np.ndarray:
    """Return illumination: shadows of roofs and trees, and light that varies slowly over the scene."""
    angle, heights = random.uniform(0, 2 * np.pi), layout.heights
    shaded = np.zeros(heights.shape, bool)
    for step in range(1, 8):
        shift = (round(step * np.sin(angle)), round(step * np.cos(angle)))
        shaded |= np.roll(heights, shift, (0, 1)) > heights + step
    edge = gaussian_filter(shaded.astype(float), 0.7)
    drift = 1 + 0.08 * smooth_noise(random, size, 160)
    light: np.ndarray = (1 - (1 - SHADE) * edge) * drift
    return light
