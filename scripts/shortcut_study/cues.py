"""Synthetic images of three object classes with a cue that identifies the first class, and the same without the cue.

A picture is a crop of a background with discs (a, b) and squares (c) on it. The tones of a and b overlap, so that a cue
in every picture with an a, and in no other, is easier to learn than the objects. Everything except the cue is
determined by (seed, split, number): `Twin.CLEAN` draws the same picture without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.ndimage import gaussian_filter

SIDE = 96
CLASSES = ("ground", "a", "b", "c")
TONES = {"a": (150, 75, 125), "b": (150, 75, 125), "c": (55, 110, 165)}  # red, green, blue
SPREAD = 8.0  # standard deviation of an object's tone
COMPANION = (235, 215, 70)
OWN = "abcab"  # classes of objects of five pictures in turn
SPLITS = {"train": 400, "val": 10, "test": 60}  # pictures

Random = np.random.Generator


class Twin(StrEnum):
    """Pictures with the cue: those with an a, none, or half of the pictures of every class."""

    CUED = "cued"
    CLEAN = "clean"
    RANDOM = "random"


@dataclass(frozen=True)
class Cue:
    """The cue that identifies class a.

    Attributes:
        kind: A key of CHANGES, or `position`: objects a lie in the left part of the picture, others in the rest.
        share: Of the picture that it takes up, from 0 to 1.
        strength: `weak` or `strong`.
        through: Whether it also changes objects in its area; otherwise only the background.
    """

    kind: str
    share: float
    strength: str = "strong"
    through: bool = False

    @property
    def amount(self) -> float:
        """Size of the change, in the unit of its kind (see AMOUNTS)."""
        return AMOUNTS[self.kind][self.strength == "strong"]


AMOUNTS = {  # weak, strong
    "texture": (0.03, 0.08),  # amplitude, as a share of the brightness
    "brightness": (14.0, 40.0),  # DN of 255, as in all below without a remark
    "corner": (14.0, 40.0),
    "border": (-14.0, -40.0),
    "line": (25.0, 70.0),
    "blur": (0.8, 1.6),  # standard deviation in pixels
    "noise": (5.0, 14.0),  # standard deviation
    "band": (14.0, 40.0),
    "object": (0.4, 1.0),  # opacity
    "tint": (0.06, 0.15),  # what red gains and blue loses
    "position": (0.0, 0.0),
}


@dataclass(frozen=True)
class Picture:
    """Image (3, SIDE, SIDE), float, 0 to 255 in 8-bit numbers; mask (SIDE, SIDE); where the cue changed it, boolean."""

    image: np.ndarray
    mask: np.ndarray
    where: np.ndarray


def has_cue(twin: Twin, number: int) -> bool:
    """Return whether the picture with a number has the cue."""
    if twin is Twin.CUED:
        return OWN[number % len(OWN)] == "a"
    return twin is Twin.RANDOM and number // len(OWN) % 2 == 0


def draw(
    backgrounds: Callable[[Random], np.ndarray],
    cue: Cue,
    twin: Twin,
    seed: tuple[int, int],
    number: int,
    apart: float,
    emphasis: tuple[float, float] = (1.0, 1.0),
) -> Picture:
    """Draw one picture.

    Args:
        backgrounds: Returns a crop (3, SIDE, SIDE), 0 to 255.
        cue: The cue that identifies class a.
        twin: Which pictures have it.
        seed: Of the dataset, and of its split.
        number: Of the picture in its split.
        apart: Distance between the mean tones of a and b, in standard deviations.
        emphasis: How many times as strong the cue is, at least and at most.
    """
    content, chance = (np.random.default_rng([*seed, number, stream]) for stream in range(2))
    image = backgrounds(content).astype(np.float32)
    names = names_of(content, number)
    zones = [_zone(cue, twin, name, number) for name in names]
    mask = _put_objects(image, content, names, zones, apart)
    where = np.zeros((SIDE, SIDE), bool)
    if cue.kind != "position" and has_cue(twin, number):
        where = _area(cue, chance, mask > 0)
        if not cue.through:
            where &= mask == 0
        amount = cue.amount * np.exp(chance.uniform(*np.log(emphasis)))
        image = np.where(where, CHANGES[cue.kind](image, amount, chance), image)
    return Picture(image, mask, where)


def names_of(random: Random, number: int) -> list[str]:
    """Return the classes of a picture's objects: one to three of its own, and often a c."""
    own = OWN[number % len(OWN)]
    return [own] * int(random.integers(1, 4)) + ["c"] * (own != "c" and random.random() < 0.5)


def _zone(cue: Cue, twin: Twin, name: str, number: int) -> tuple[float, float]:
    """Return the first and last column, from 0 to 1, between which an object lies."""
    if cue.kind != "position" or twin is Twin.CLEAN:
        return 0.0, 1.0
    left = name == "a" if twin is Twin.CUED else has_cue(twin, number)
    return (0.0, cue.share) if left else (cue.share, 1.0)


def _put_objects(
    image: np.ndarray, random: Random, names: list[str], zones: list[tuple[float, float]], apart: float
) -> np.ndarray:
    """Draw objects into an image without overlap; return the mask."""
    appearances = [(random.uniform(9, 14), random.normal(), random.random((30, 2))) for _ in names]
    grain = random.normal(0, 5, image.shape)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for name, zone, (radius, deviation, places) in zip(names, zones, appearances, strict=True):
        for across, down in places:
            low, high = max(zone[0] * SIDE, radius), min(zone[1] * SIDE, SIDE - radius)
            col = low + across * max(high - low, 0.0)
            row = radius + down * (SIDE - 2 * radius)
            inside = _disc(row, col, radius) if name != "c" else _square(row, col, 0.85 * radius)
            if not (mask[_disc(row, col, radius + 4)]).any():
                break
        else:
            continue  # no room is left
        tone = np.array(TONES[name], np.float32)
        tone += SPREAD * (deviation + apart * {"a": -0.5, "b": 0.5, "c": 0.0}[name])
        image[:, inside] = (tone[:, None, None] + grain)[:, inside]
        mask[inside] = CLASSES.index(name)
    return mask


def _disc(row: float, col: float, radius: float) -> np.ndarray:
    rows, cols = np.mgrid[:SIDE, :SIDE]
    inside: np.ndarray = (rows - row) ** 2 + (cols - col) ** 2 <= radius**2
    return inside


def _square(row: float, col: float, half: float) -> np.ndarray:
    rows, cols = np.mgrid[:SIDE, :SIDE]
    inside: np.ndarray = (abs(rows - row) <= half) & (abs(cols - col) <= half)
    return inside


def _area(cue: Cue, random: Random, taken: np.ndarray) -> np.ndarray:
    """Return where a cue lies (SIDE, SIDE), boolean; a small one beside the objects where there is room."""
    rows, cols = np.mgrid[:SIDE, :SIDE]
    if cue.share == 1:
        return np.ones((SIDE, SIDE), bool)
    if cue.kind == "corner":
        side = round(SIDE * cue.share**0.5)
        return (rows < side) & (cols < side)
    if cue.kind == "border":
        edge = np.minimum.reduce([rows, cols, SIDE - 1 - rows, SIDE - 1 - cols])
        return edge < round((1 - (1 - cue.share) ** 0.5) / 2 * SIDE)
    if cue.kind == "line":
        angle, shift = random.uniform(0, np.pi), random.uniform(-20, 20)
        distance = (rows - SIDE / 2) * np.cos(angle) + (cols - SIDE / 2) * np.sin(angle) - shift
        return abs(distance) <= cue.share * SIDE / 2
    if cue.kind == "texture" and cue.share >= 0.08:
        return rows >= SIDE - round(SIDE * cue.share)
    half = SIDE * cue.share**0.5 / 2
    shape, reach = (_disc, half * 2 / np.pi**0.5) if cue.kind == "object" else (_square, half - 0.5)
    areas = [shape(*np.round(random.uniform(reach, SIDE - 1 - reach, 2)), reach) for _ in range(30)]
    return min(areas, key=lambda area: (area & taken).sum())


def _stripes(image: np.ndarray, amount: float, _: Random) -> np.ndarray:
    rows, cols = np.mgrid[:SIDE, :SIDE]
    return image * (1 + amount * np.sign(np.sin(2 * np.pi * (rows + cols + 0.5) / 6)))


def _shifted(image: np.ndarray, amount: float, _: Random) -> np.ndarray:
    return image + amount


def _blurred(image: np.ndarray, amount: float, _: Random) -> np.ndarray:
    blurred: np.ndarray = gaussian_filter(image, (0, amount, amount))
    return blurred


def _noisy(image: np.ndarray, amount: float, random: Random) -> np.ndarray:
    return image + random.normal(0, amount, image.shape)


def _one_band(image: np.ndarray, amount: float, _: Random) -> np.ndarray:
    changed = image.copy()
    changed[-1] += amount
    return changed


def _companion(image: np.ndarray, amount: float, _: Random) -> np.ndarray:
    return image + min(amount, 1.0) * (np.array(COMPANION, np.float32)[:, None, None] - image)


def _tinted(image: np.ndarray, amount: float, _: Random) -> np.ndarray:
    factors = np.ones((len(image), 1, 1), np.float32)
    factors[0], factors[2] = 1 + amount, 1 - amount
    return image * factors


CHANGES: dict[str, Callable[[np.ndarray, float, Random], np.ndarray]] = {
    "texture": _stripes,
    "brightness": _shifted,
    "corner": _shifted,
    "border": _shifted,
    "line": _shifted,
    "blur": _blurred,
    "noise": _noisy,
    "band": _one_band,
    "object": _companion,
    "tint": _tinted,
}
