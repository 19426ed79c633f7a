"""Layout of synthetic scenes: classes and their objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

CLASS_NAMES = ("water", "forest", "cropland", "bare_land", "road", "building", "solar_park")
WATER, FOREST, CROPLAND, BARE, ROAD, BUILDING, SOLAR = range(7)
PALETTE = ((64, 132, 214), (38, 112, 62), (222, 202, 92), (178, 138, 98), (92, 92, 100), (214, 72, 62), (126, 62, 168))

Random = np.random.Generator


@dataclass
class Layout:
    """A scene before rendering.

    Attributes:
        classes: Class indices (H, W).
        objects: Number of the object of each pixel (H, W), such as a parcel, a roof or a stretch of water.
        along: Distance in metres along the object's own direction (H, W), which rows, ridges and panels follow.
        heights: Metres above ground (H, W), for shadows.
    """

    classes: np.ndarray
    objects: np.ndarray
    along: np.ndarray
    heights: np.ndarray

    def place(self, where: np.ndarray, kind: int, objects: np.ndarray | int, along: np.ndarray, height: float) -> None:
        """Put objects of a class on top of the layout."""
        self.classes[where] = kind
        self.objects[where] = (objects[where] if isinstance(objects, np.ndarray) else objects) + kind * 100_000
        self.along[where] = along[where]
        self.heights[where] = height


def smooth_noise(random: Random, size: int, scale: float) -> np.ndarray:
    """Return noise (size, size) of mean 0 and standard deviation 1, with features about `scale` pixels wide."""
    step = max(1, int(scale // 4))
    small = -(-size // step) + 8
    noise = gaussian_filter(random.standard_normal((small, small)), scale / step, mode="wrap")
    noise = np.kron(noise, np.ones((step, step))) if step > 1 else noise
    noise = gaussian_filter(noise, step / 2)[:size, :size] if step > 1 else noise[:size, :size]
    noise = noise - noise.mean()
    result: np.ndarray = noise / noise.std()
    return result


def rotated(random: Random, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (u, v) in pixels, rotated by a random angle and slightly bent."""
    rows, cols = np.mgrid[:size, :size].astype(float)
    angle = random.uniform(0, np.pi)
    bend = 6 * smooth_noise(random, size, 120)
    u = cols * np.cos(angle) + rows * np.sin(angle) + bend
    v = -cols * np.sin(angle) + rows * np.cos(angle) - bend
    return u, v


def make_layout(random: Random, size: int) -> Layout:
    """Generate a layout of land, water, roads, settlements and solar parks."""
    blank = np.zeros((size, size))
    layout = Layout(np.full((size, size), CROPLAND), np.zeros((size, size), int), blank.copy(), blank.copy())
    _parcels(layout, random, size)
    _forests(layout, random, size)
    _solar_parks(layout, random, size)
    settled = smooth_noise(random, size, 90) > random.uniform(0.5, 0.9)
    _settlement(layout, random, size, settled)
    _water(layout, random, size)
    _roads(layout, random, size)
    return layout


def _intervals(random: Random, values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut an axis at random positions; return the number of each value's interval and the distance from its start."""
    start, stop = float(values.min()), float(values.max())
    edges = start + np.cumsum(random.uniform(low, high, int((stop - start) / low) + 2))
    number = np.searchsorted(edges, values)
    return number, values - np.concatenate([[start], edges])[number]


def _parcels(layout: Layout, random: Random, size: int) -> None:
    """Add fields in strips, each with its own row direction; some are bare."""
    u, v = rotated(random, size)
    strip, _ = _intervals(random, u, 45, 110)
    offsets = random.uniform(0, 100, strip.max() + 1)
    field, _ = _intervals(random, v + offsets[strip], 50, 140)
    number = strip * 500 + field
    turned = random.random(number.max() + 1) < 0.5
    layout.objects[:] = CROPLAND * 100_000 + number
    layout.along[:] = np.where(turned[number], u, v)
    bare = (random.random(number.max() + 1) < 0.24)[number] | (smooth_noise(random, size, 60) > 1.7)
    layout.place(bare, BARE, number, layout.along, 0)


def _forests(layout: Layout, random: Random, size: int) -> None:
    edge = smooth_noise(random, size, 70) + 0.25 * smooth_noise(random, size, 8)
    wood = edge > random.uniform(0.5, 0.9)
    layout.place(wood, FOREST, (edge * 2).astype(int) % 7, layout.along, 7)


def _solar_parks(layout: Layout, random: Random, size: int) -> None:
    """Add rectangles of panel rows, in fields and on bare land."""
    for number in range(int(random.integers(2, 4))):
        u, v = rotated(random, size)
        row, col = random.integers(50, size - 50, 2)
        length, width = random.uniform(38, 70), random.uniform(26, 46)
        inside = (np.abs(u - u[row, col]) < length / 2) & (np.abs(v - v[row, col]) < width / 2)
        layout.place(inside & (layout.classes != FOREST), SOLAR, number, v, 0)


def _settlement(layout: Layout, random: Random, size: int, settled: np.ndarray) -> None:
    """Add streets on a bent grid, with at most one roof on each lot between them."""
    u, v = rotated(random, size)
    street_u, from_u = _intervals(random, u, 44, 70)
    street_v, from_v = _intervals(random, v, 60, 100)
    yard = street_u * 300 + street_v
    layout.place(settled, CROPLAND, yard % 97, u, 0)  # gardens and lawns
    layout.place(settled & (yard % 3 == 0), BARE, yard % 89, u, 0)
    lot_u, within_u = np.divmod(from_u - 8, 19)
    lot_v, within_v = np.divmod(from_v - 8, 22)
    lots = (yard * 100 + lot_u * 10 + lot_v).astype(int) % 50_021
    width, depth = random.uniform(9, 17, 50_021), random.uniform(9, 19, 50_021)
    built = random.random(50_021) < 0.78
    inside = (within_u > 1) & (within_u < 1 + width[lots]) & (within_v > 1) & (within_v < 1 + depth[lots])
    notch = (within_u > 1 + 0.55 * width[lots]) & (within_v > 1 + 0.55 * depth[lots]) & (lots % 3 == 0)
    roofs = settled & built[lots] & inside & ~notch & (from_u > 8) & (from_v > 8)
    along = np.where(width[lots] > depth[lots], within_v - depth[lots] / 2, within_u - width[lots] / 2)
    layout.place(roofs, BUILDING, lots, along, 6)
    near = binary_dilation(settled, iterations=3)
    layout.place(near & ((from_u < 6) | (from_v < 5)), ROAD, 1, u, 0)


def _water(layout: Layout, random: Random, size: int) -> None:
    """Add ponds, and in most scenes a winding river."""
    rows, cols = np.mgrid[:size, :size].astype(float)
    if random.random() < 0.5:
        rows, cols = cols, rows
    ponds = smooth_noise(random, size, 45) > 2.0
    if random.random() < 0.8:
        centre = random.uniform(0.15, 0.85) * size + random.uniform(-0.4, 0.4) * (rows - size / 2)
        for wave in (random.uniform(250, 500), random.uniform(90, 180)):
            centre = centre + wave / 9 * np.sin(2 * np.pi * (rows / wave + random.random()))
        width = random.uniform(9, 22) * (1 + 0.25 * smooth_noise(random, size, 60))
        ponds |= np.abs(cols - centre) < width
    layout.place(ponds, WATER, 0, layout.along, 0)


def _roads(layout: Layout, random: Random, size: int) -> None:
    """Add country roads across the scene, with bridges over water."""
    for number in range(int(random.integers(2, 4))):
        rows, cols = np.mgrid[:size, :size].astype(float)
        if random.random() < 0.5:
            rows, cols = cols, rows
        slope, wave = random.uniform(-0.7, 0.7), random.uniform(300, 700)
        centre = random.uniform(0.1, 0.9) * size + slope * (rows - size / 2)
        centre = centre + wave / 14 * np.sin(2 * np.pi * (rows / wave + random.random()))
        distance = np.abs(cols - centre) / np.hypot(1, slope)
        layout.place(distance < random.uniform(2.6, 4.6), ROAD, 2 + number, layout.along, 0)
